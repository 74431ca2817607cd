"""Normalisation statistics of an interpolated network, computed anew from data."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

Moments = dict[nn.Module, tuple[Tensor, Tensor]]  # the mean and the variance of the inputs of each normalisation layer


def tracked_norms(model: nn.Module) -> list[nn.Module]:
    """The normalisation layers that keep running statistics, in the order of the module tree."""
    return [module for module in model.modules() if getattr(module, "running_mean", None) is not None]


@contextmanager
def own_statistics(model: nn.Module) -> Iterator[Moments]:
    r"""Within this context a network in evaluation mode normalises every batch by that batch's own moments,

    $\mu = \frac1n \sum_i x_i$ and $\sigma^2 = \frac1n \sum_i (x_i - \mu)^2$ over examples and places, which are gathered.
    On all data as one batch these *are* the recomputed statistics, and what the pass puts
    out is what a network with them would.

    Example:
        >>> norm, x = nn.BatchNorm1d(1).eval(), torch.tensor([[1.0], [3.0]])
        >>> with own_statistics(norm) as moments:
        ...     out = norm(x)
        >>> [round(v, 3) for v in out.flatten().tolist()], *(moment.item() for moment in moments[norm])
        ([-1.0, 1.0], 2.0, 1.0)
    """
    moments: Moments = {}

    def take(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean, var = _moments(module, inputs[0])
        module.running_mean.copy_(mean)
        module.running_var.copy_(var)
        moments[module] = (mean, var)

    hooks = [module.register_forward_pre_hook(take) for module in tracked_norms(model)]
    try:
        yield moments
    finally:
        for hook in hooks:
            hook.remove()


def _moments(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    places = tuple(range(2, x.dim()))
    if isinstance(module, _InstanceNorm):  # the mean over examples of each example's own
        var, mean = torch.var_mean(x, dim=places, correction=0)
        return mean.mean(0), var.mean(0)
    return torch.batch_norm_update_stats(
        x, None, None, 0.0
    )  # batch norm's own sums, many times quicker than `var_mean`
