"""Several networks of one architecture as one wide network, so that they run in lock-step."""

import copy
from collections.abc import Mapping
from types import ModuleType

import torch
from torch import Tensor, nn

from lmclib.networks import wide_batch, wide_channels

MEMBERS = 8  # networks in lock-step; fixed, because bits depend on it
SMALL = 12 * 12  # images of more pixels gain nothing from lock-step on a CPU


class Stack(nn.Module):
    r"""`width` networks of one architecture side by side: $f(x)_k = f_{\theta_k}(x_k)$ for members $k = 1, \dots, K$.

    One wide network is faster than one network after another while they are small. Perceptrons and transformers lie behind one
    another in the batch, convolutional networks side by side in groups of channels. Whether that is the same function, and gives the
    same bits in every place, is checked on a probe batch; any other network has a stack of width one.

    A member's results depend on the width but not on the other members, so a run gives the same bits in whatever
    company it trains: keep the width fixed.

    Args:
        model: the architecture, any module that takes one tensor; its own weights are not used.
        width: the number of members.
        x: a batch of inputs (B, ...) for the check.
    """

    def __init__(self, model: nn.Module, width: int, x: Tensor):
        super().__init__()
        self.shapes = {key: value.shape for key, value in model.state_dict().items()}
        for self.form in (wide_batch, wide_channels) if width > 1 else ():
            if (wide := _widen(model, width, self.form)) is not None:
                self.width, self.net = width, wide
                if self._agrees(model, x[:4]) and self._has_equal_places(model, x):
                    return
        self.width, self.net, self.form = 1, copy.deepcopy(model), None

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (B, K, ...) to outputs (B, K, ...)."""
        if self.width == 1:
            return self.net(x[:, 0])[:, None]
        return self.form.evaluate(self.net, x)

    def member(self, tensors: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
        """Views of member `k` in wide tensors that are named as in the network's state dict."""
        return {key: value.view(self.width, *self.shapes[key])[k] for key, value in tensors.items()}

    def load(self, k: int, state: Mapping[str, Tensor]) -> None:
        """Put the network with state dict `state` in place `k`."""
        with torch.no_grad():
            for key, view in self.member(self.net.state_dict(), k).items():
                view.copy_(state[key])

    def read(self, k: int) -> dict[str, Tensor]:
        """A copy of the state dict of member `k`."""
        return {key: view.detach().clone() for key, view in self.member(self.net.state_dict(), k).items()}

    @torch.no_grad()
    def _agrees(self, model: nn.Module, x: Tensor) -> bool:
        """Whether members compute what the networks compute alone, on a batch, up to float32 rounding."""
        members = range(self.width)
        states = [{key: _jitter(value, k) for key, value in model.state_dict().items()} for k in members]
        for k, state in enumerate(states):
            self.load(k, state)
        try:
            together = self.eval()(torch.stack([x + k for k in members], 1))
        except RuntimeError:  # its forward pass counts channels
            return False
        alone = copy.deepcopy(model).eval()
        for k, state in enumerate(states):
            alone.load_state_dict(state)
            if not torch.allclose(alone(x + k), together[:, k], rtol=1e-3, atol=1e-4):
                return False
        return True

    def _has_equal_places(self, model: nn.Module, x: Tensor) -> bool:
        """Whether a network has the same bits in every place: outputs and, where there are any, slopes."""
        for k in range(self.width):
            self.load(k, model.state_dict())
        with torch.enable_grad():
            out = self.eval()(torch.stack([x] * self.width, 1))
            found = [out.unbind(1)]
            if out.requires_grad:
                ramp = torch.linspace(-1, 1, out[:, 0].numel(), device=out.device).view_as(out[:, 0])
                slopes = torch.autograd.grad(
                    (out * ramp[:, None]).sum(), list(self.net.parameters()), allow_unused=True
                )
                found += [slope.chunk(self.width) for slope in slopes if slope is not None]
        return all(torch.equal(part, first) for first, *others in found for part in others)


def _jitter(value: Tensor, k: int) -> Tensor:
    return value * (1 + 0.1 * k) if value.is_floating_point() else value


def _widen(model: nn.Module, width: int, form: ModuleType) -> nn.Module | None:
    """The network with every module that has a wide form replaced by it, and all other parameters repeated; None where that cannot be."""
    tied = len(list(model.parameters())) != len(list(model.named_parameters(remove_duplicate=False)))
    if tied or not all(form.is_stackable(module) for module in model.modules()):
        return None
    wide = copy.deepcopy(model)
    for name, module in list(wide.named_modules()):
        if (make := form.WIDE.get(type(module))) is not None:
            parent, _, child = name.rpartition(".")
            if not name:  # the whole network is one such module
                return make(module, width)
            setattr(wide.get_submodule(parent), child, make(module, width))
        else:
            for key, value in module.named_parameters(recurse=False):
                setattr(module, key, nn.Parameter(value.detach().repeat(width, *[1] * (value.dim() - 1))))
    return wide
