"""Networks in lock-step: a stack of them as one wide network, its momentum, and the update of all."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.sgd import sgd

from lmclib.device import Precision, autocast
from lmclib.networks.stacked import Stack
from lmclib.training.recipe import Recipe
from lmclib.training.run import Run

ROUNDING = 1e-3  # of one convolution's gradient: far above float32's own, far below a wrong one


class TrainingStack:
    """Networks in lock-step and their momentum; any network of the architecture can take the place of any member."""

    def __init__(self, model: nn.Module, members: int, probe: Tensor, precision: Precision):
        self.stack = Stack(model, members, probe)
        self.stack.train()
        # convolutions are faster so: on a CPU, and on a GPU those in bf16; the wide ones of networks in lock-step are not
        faster = self.stack.width == 1 and probe.dim() == 4 and (precision == "bf16" or not probe.is_cuda)
        self.channels_last = faster and _same_in_channels_last(self.stack.net, probe)
        if self.channels_last:
            self.stack.to(memory_format=torch.channels_last)
        self.names = [name for name, _ in self.stack.net.named_parameters()]
        self.parameters = [parameter for _, parameter in self.stack.net.named_parameters()]
        self.momentum = [torch.zeros_like(parameter) for parameter in self.parameters]

    def step(self, x: Tensor, y: Tensor, rates: Tensor, recipe: Recipe, precision: Precision) -> Tensor:
        """One SGD step of every member, for inputs (B, K, ...), targets (B, K) and learning rates (K,); the losses (K,)."""
        if self.channels_last:
            x = x[:, 0].contiguous(memory_format=torch.channels_last)[:, None]
        with autocast(precision, x.device):
            out = self.stack(x).float()  # (B, K, n_classes)
            losses = F.cross_entropy(out.flatten(0, 1), y.flatten(), reduction="none").view_as(y).mean(0)
        # networks in a stack share no parameter, so the gradient of the sum is each network's own
        grads = list(torch.autograd.grad(losses.sum(), self.parameters))
        with torch.no_grad():
            self._update(grads, rates, recipe)
        return losses.detach()

    def _update(self, grads: list[Tensor], rates: Tensor, recipe: Recipe) -> None:
        if self.stack.width == 1:  # one kernel, which wants gradients in memory as the parameters are
            alike = zip(grads, self.parameters, strict=True)
            grads = [g if g.stride() == p.stride() else torch.empty_like(p).copy_(g) for g, p in alike]
            sgd(
                self.parameters,
                grads,
                self.momentum,
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
        torch._foreach_mul_(self.momentum, recipe.momentum)
        torch._foreach_add_(self.momentum, grads)
        for parameter, velocity in zip(self.parameters, self.momentum, strict=True):  # a rate for every member
            parameter.view(len(rates), -1).sub_(rates[:, None] * velocity.view(len(rates), -1))

    def tensors(self) -> list[Tensor]:
        """All that a step changes in place."""
        return [*self.stack.net.state_dict().values(), *self.momentum]

    def load(self, k: int, run: Run) -> None:
        """Make a run member `k`."""
        self.stack.load(k, run.state)
        for name, view in self.stack.member(dict(zip(self.names, self.momentum, strict=True)), k).items():
            view.zero_() if run.momentum is None else view.copy_(run.momentum[name])

    def read(self, k: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Copies of a member's state dict and momentum."""
        momentum = self.stack.member(dict(zip(self.names, self.momentum, strict=True)), k)
        return self.stack.read(k), {key: value.clone() for key, value in momentum.items()}


@torch.no_grad()
def _same_in_channels_last(net: nn.Module, x: Tensor) -> bool:
    """Whether every convolution has the same gradient in that layout: on some CPUs a strided 1×1 one has not (PyTorch 2.15)."""
    taken: list[tuple[nn.Conv2d, Tensor]] = []
    probe = copy.deepcopy(net)  # a pass changes running statistics
    convolutions = [module for module in probe.modules() if isinstance(module, nn.Conv2d)]
    hooks = [conv.register_forward_hook(lambda conv, given, _: taken.append((conv, given[0]))) for conv in convolutions]
    probe(x)
    for hook in hooks:
        hook.remove()
    return all(_same_gradient(conv, inputs) for conv, inputs in taken)


@torch.enable_grad()
def _same_gradient(conv: nn.Conv2d, x: Tensor) -> bool:
    slopes = []
    for layout in (torch.contiguous_format, torch.channels_last):
        out = conv.to(memory_format=layout)(x.contiguous(memory_format=layout))
        ramp = torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape)
        slopes.append(torch.autograd.grad(out, conv.weight, ramp)[0])
    return bool((slopes[0] - slopes[1]).norm() <= ROUNDING * slopes[0].norm())
