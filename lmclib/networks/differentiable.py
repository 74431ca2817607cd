"""A network as a function of its state dict, differentiable in weights and running statistics alike."""

import copy
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm


class Functional:
    r"""The map $(\theta, x) \mapsto f_\theta(x)$ of a network in evaluation mode.

    PyTorch's batch norm in evaluation mode has no derivative in its running statistics, and its fused attention no second
    one. Here both are spelled out, so that every derivative exists that the activations have.

    Args:
        model: any module that takes one tensor; its own weights are not used.

    Example:
        >>> f = Functional(nn.Linear(1, 1, bias=False))
        >>> f({"weight": torch.tensor([[2.0]])}, torch.tensor([[3.0]]))
        tensor([[6.]])
    """

    def __init__(self, model: nn.Module):
        self.net = copy.deepcopy(model).eval()
        for name, module in list(self.net.named_modules()):
            if isinstance(module, _BatchNorm) and module.track_running_stats:
                if not name:
                    self.net = FrozenNorm(module)
                    continue
                parent, _, child = name.rpartition(".")
                setattr(self.net.get_submodule(parent), child, FrozenNorm(module))

    def __call__(self, state: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Map inputs (B, ...) to outputs; of tied parameters `state` holds one."""
        with sdpa_kernel(SDPBackend.MATH):
            return functional_call(self.net, dict(state), (x,))


class FrozenNorm(nn.Module):
    r"""Batch norm in evaluation mode, $\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta$, as plain arithmetic."""

    def __init__(self, norm: _BatchNorm):
        super().__init__()
        self.eps = norm.eps
        for key, value in norm.named_parameters():
            setattr(self, key, value)
        for key, value in norm.named_buffers():
            self.register_buffer(key, value)

    def forward(self, x: Tensor) -> Tensor:
        scale = (self.running_var + self.eps).rsqrt()
        shift = -self.running_mean * scale
        if getattr(self, "weight", None) is not None:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        shape = (1, -1, *[1] * (x.dim() - 2))
        return x * scale.view(shape) + shift.view(shape)


def jet(f: Callable[[Tensor], Tensor], t: Tensor, order: int) -> tuple[Tensor, ...]:
    r"""The value and the first `order` derivatives of a function of one number, $(f, f', \dots, f^{(k)})(t)$.

    Forward mode nested in itself; it costs $2^k$ evaluations of $f$.

    Example:
        >>> [d.item() for d in jet(lambda t: t**3, torch.tensor(2.0), 3)]
        [8.0, 12.0, 12.0, 6.0]
    """
    _load_rules()
    if order == 0:
        return (f(t),)
    values, slopes = jvp(lambda s: jet(f, s, order - 1), (t,), (torch.ones_like(t),))
    return (*values, slopes[-1])


@cache
def _load_rules() -> None:
    """PyTorch loads its rules for forward mode on first use, with a warning about its own future that is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import_module("torch._decomp.decompositions_for_jvp")
