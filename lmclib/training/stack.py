"""Networks in lock-step: a stack of them as one wide network, and a step of its optimiser."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmclib.device import Precision, autocast
from lmclib.networks.stacked import Stack
from lmclib.training.optimisers import OPTIMISERS, uphill
from lmclib.training.recipe import Recipe
from lmclib.training.run import Run

LANES = 16  # numbers in a vector of the widest kind
ROUNDING = 1e-3  # of one convolution's gradient: far above float32's own, far below a wrong one


class TrainingStack:
    """Networks in lock-step and their optimiser; any network of the architecture can take the place of any member."""

    def __init__(self, model: nn.Module, members: int, probe: Tensor, recipe: Recipe, precision: Precision):
        self.stack = Stack(model, members, probe)
        self.stack.train()
        self.recipe, self.precision = recipe, precision
        # convolutions are faster so: on a CPU, and on a GPU those in bf16 of a network that trains alone
        faster = not probe.is_cuda or (precision == "bf16" and self.stack.width == 1)
        faster = faster and probe.dim() == 4 and _has_full_vectors(self.stack)
        self.channels_last = faster and _same_in_channels_last(self.stack, probe)
        if self.channels_last and self.stack.width == 1:  # members are views of wide weights, which stay as they are
            self.stack.to(memory_format=torch.channels_last)
        self.names = [name for name, _ in self.stack.net.named_parameters()]
        self.parameters = [parameter for _, parameter in self.stack.net.named_parameters()]
        self.optimiser = OPTIMISERS[recipe.optimizer](self.parameters, self.stack.width, recipe)

    def step(self, x: Tensor, y: Tensor, rates: Tensor) -> Tensor:
        """One step of every member, for inputs (B, K, ...), targets (B, K, ...) and learning rates (K,); the losses (K,)."""
        if self.channels_last:
            x = x.flatten(1, 2).contiguous(memory_format=torch.channels_last).unflatten(1, (self.stack.width, -1))
        losses, grads = self._gradients(x, y)
        if self.recipe.rho:
            grads = self._sharpness_aware(grads, x, y)
        self.optimiser.update(grads, rates)
        return losses

    def _gradients(self, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        with autocast(self.precision, x.device):
            out = self.stack(x).float()  # (B, K, ..., n_classes)
            each = F.cross_entropy(out.flatten(0, -2), y.flatten(), reduction="none").view_as(y)
            losses = each.mean([dim for dim in range(y.dim()) if dim != 1])
        # networks in a stack share no parameter, so the gradient of the sum is each network's own
        return losses.detach(), list(torch.autograd.grad(losses.sum(), self.parameters))

    def _sharpness_aware(self, grads: list[Tensor], x: Tensor, y: Tensor) -> list[Tensor]:
        """Gradients a step uphill; parameters are as before, and statistics those of the first pass."""
        kept = [value for value in self.stack.net.state_dict().values()]
        before = [value.clone() for value in kept]
        with torch.no_grad():
            torch._foreach_add_(self.parameters, uphill(grads, self.stack.width, self.recipe.rho))
        _, grads = self._gradients(x, y)
        with torch.no_grad():
            for value, old in zip(kept, before, strict=True):
                value.copy_(old)
        return grads

    def tensors(self) -> list[Tensor]:
        """All that a step changes in place."""
        moments = [value for values in self.optimiser.moments.values() for value in values]
        return [*self.stack.net.state_dict().values(), *moments, *self.optimiser.counts.values()]

    def load(self, k: int, run: Run) -> None:
        """Make a run member `k`."""
        self.stack.load(k, run.state)
        for key, view in self._remembered(k).items():
            view.zero_() if run.momentum is None else view.copy_(run.momentum[key])

    def read(self, k: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Copies of a member's state dict and of what its optimiser remembers."""
        return self.stack.read(k), {key: value.clone() for key, value in self._remembered(k).items()}

    def _remembered(self, k: int) -> dict[str, Tensor]:
        """Views of what the optimiser remembers of a member."""
        views = {name: counts[k] for name, counts in self.optimiser.counts.items()}
        for suffix, values in self.optimiser.moments.items():
            member = self.stack.member(dict(zip(self.names, values, strict=True)), k)
            views |= {name + suffix: view for name, view in member.items()}
        return views


def _has_full_vectors(stack: Stack) -> bool:
    """Whether there are convolutions, and no member's channels are what is left over of a vector: those are summed in another order, and bits would depend on the place."""
    convolutions = [module for module in stack.modules() if isinstance(module, nn.Conv2d)]
    return bool(convolutions) and (stack.width == 1 or all(conv.out_channels % LANES == 0 for conv in convolutions))


@torch.no_grad()
def _same_in_channels_last(stack: Stack, x: Tensor) -> bool:
    """Whether every convolution has the same gradient in that layout: on some CPUs a strided 1×1 one has not (PyTorch 2.15)."""
    taken: list[tuple[nn.Conv2d, Tensor]] = []
    probe = copy.deepcopy(stack.net)  # a pass changes running statistics
    convolutions = [module for module in probe.modules() if isinstance(module, nn.Conv2d)]
    hooks = [conv.register_forward_hook(lambda conv, given, _: taken.append((conv, given[0]))) for conv in convolutions]
    probe(x.repeat(1, stack.width, 1, 1))
    for hook in hooks:
        hook.remove()
    return all(_same_gradient(conv, inputs, weights=stack.width == 1) for conv, inputs in taken)


@torch.enable_grad()
def _same_gradient(conv: nn.Conv2d, x: Tensor, weights: bool) -> bool:
    """Whether a convolution's gradient is the same for inputs, and `weights` too if so, in either layout."""
    slopes = []
    for layout in (torch.contiguous_format, torch.channels_last):
        conv = conv.to(memory_format=layout) if weights else conv
        out = conv(x.contiguous(memory_format=layout))
        ramp = torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape)
        # not with the ramp as an argument, for which PyTorch imports its symbolic shapes: a second in each process that trains
        slopes.append(torch.autograd.grad((out * ramp).sum(), conv.weight)[0])
    return bool((slopes[0] - slopes[1]).norm() <= ROUNDING * slopes[0].norm())
