"""Optimisers of networks in lock-step: what each remembers of the gradients, and how it moves the parameters of all members."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from lmclib.training.recipe import Recipe

EPSILON = 1e-8  # AdamW's, and what keeps a step of sharpness-aware minimisation finite where there is no gradient


class SGD:
    r"""$v \leftarrow \mu v + g + \lambda\theta$, $\theta \leftarrow \theta - \eta v$.

    Args:
        parameters: wide ones, those of all members side by side.
        width: K, the number of members.
        recipe: the hyper-parameters.

    Attributes:
        moments: what is remembered of each parameter, of its shape, by what is put behind its name.
        counts: what is remembered of each member, (K,) each, by name.
    """

    def __init__(self, parameters: Sequence[Tensor], width: int, recipe: Recipe):
        self.parameters, self.width, self.recipe = list(parameters), width, recipe
        self.velocity = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.moments, self.counts = {"": self.velocity}, {}

    @torch.no_grad()
    def update(self, grads: list[Tensor], rates: Tensor) -> None:
        """One step, by gradients of the parameters' shapes and learning rates (K,)."""
        recipe, grads = self.recipe, _laid_out_as(self.parameters, grads)
        if self.width == 1:  # one kernel
            sgd(
                self.parameters,
                grads,
                self.velocity,
                fused=True,
                lr=rates[0],
                weight_decay=recipe.weight_decay,
                momentum=recipe.momentum,
                dampening=0,
                nesterov=False,
                maximize=False,
            )
            return
        torch._foreach_add_(grads, self.parameters, alpha=recipe.weight_decay)
        torch._foreach_mul_(self.velocity, recipe.momentum)
        torch._foreach_add_(self.velocity, grads)
        for parameter, velocity in zip(self.parameters, self.velocity, strict=True):  # a rate for every member
            parameter.view(len(rates), -1).sub_(rates[:, None] * velocity.view(len(rates), -1))


class AdamW:
    r"""$m \leftarrow \beta_1 m + (1 - \beta_1) g$, $s \leftarrow \beta_2 s + (1 - \beta_2) g^2$, $\theta \leftarrow (1 - \eta\lambda)\theta - \eta\, \hat m / (\sqrt{\hat s} + \epsilon)$.

    $\hat m$ and $\hat s$ are divided by $1 - \beta^t$ at a member's own step t. Arguments and attributes are those of `SGD`.
    """

    def __init__(self, parameters: Sequence[Tensor], width: int, recipe: Recipe):
        self.parameters, self.width, self.recipe = list(parameters), width, recipe
        self.steps = torch.zeros(width, device=self.parameters[0].device)
        if width == 1:
            self.mean, self.square = ([torch.zeros_like(parameter) for parameter in self.parameters] for _ in range(2))
        else:
            # a row a member: some passes over all parameters at once rather than some for each
            self.rows = [torch.zeros_like(_in_rows(self.parameters, width)) for _ in range(2)]
            self.mean, self.square = (self._apart(rows) for rows in self.rows)
        self.moments, self.counts = {"": self.mean, "/square": self.square}, {"/steps": self.steps}

    @torch.no_grad()
    def update(self, grads: list[Tensor], rates: Tensor) -> None:
        """One step, by gradients of the parameters' shapes and learning rates (K,)."""
        recipe, grads = self.recipe, _laid_out_as(self.parameters, grads)
        betas = recipe.momentum, recipe.beta2
        if self.width == 1:  # one kernel
            steps = [self.steps[0].clone() for _ in self.parameters]  # which it counts up
            self.steps.add_(1)
            adamw(
                self.parameters,
                grads,
                self.mean,
                self.square,
                [],
                steps,
                fused=True,
                amsgrad=False,
                beta1=betas[0],
                beta2=betas[1],
                lr=rates[0],
                weight_decay=recipe.weight_decay,
                eps=EPSILON,
                maximize=False,
            )
            return
        self.steps.add_(1)
        (mean, square), grad, rates = self.rows, _in_rows(grads, self.width), rates[:, None]
        first, second = ((1 - beta**self.steps)[:, None] for beta in betas)
        mean.lerp_(grad, 1 - betas[0])
        square.mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
        moved = _in_rows(self.parameters, self.width).mul_(1 - rates * recipe.weight_decay)
        moved.sub_(rates * (mean / first) / ((square / second).sqrt_().add_(EPSILON)))
        torch._foreach_copy_([parameter.view(self.width, -1) for parameter in self.parameters], self._apart(moved))

    def _apart(self, rows: Tensor) -> list[Tensor]:
        """Views of each parameter's part of rows: (K, n) each."""
        return list(rows.split([parameter.numel() // self.width for parameter in self.parameters], 1))


OPTIMISERS = {"sgd": SGD, "adamw": AdamW}


def _in_rows(values: Sequence[Tensor], width: int) -> Tensor:
    """A copy of all values of a member in a row: (K, n)."""
    return torch.cat([value.detach().reshape(width, -1) for value in values], 1)


@torch.no_grad()
def uphill(grads: Sequence[Tensor], width: int, rho: float) -> list[Tensor]:
    r"""The steps $\rho\, g / \lVert g \rVert$ of sharpness-aware minimisation, each member's by the norm of its own gradient.

    Example:
        >>> [step.tolist() for step in uphill([torch.tensor([3.0]), torch.tensor([4.0])], 1, 0.5)]  # a norm of 5
        [[0.30000001192092896], [0.4000000059604645]]
    """
    square = sum(grad.reshape(width, -1).square().sum(1) for grad in grads)
    scale = rho / (square.sqrt() + EPSILON)
    return [(scale[:, None] * grad.reshape(width, -1)).view_as(grad) for grad in grads]


def _laid_out_as(parameters: Sequence[Tensor], grads: Sequence[Tensor]) -> list[Tensor]:
    """Gradients in memory as the parameters are, which fused kernels and views want."""
    alike = zip(grads, parameters, strict=True)
    return [grad if grad.stride() == p.stride() else torch.empty_like(p).copy_(grad) for grad, p in alike]
