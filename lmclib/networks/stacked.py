"""Several networks of one architecture as one network: grouped convolutions let them run in lock-step."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEMBERS = 8  # networks in lock-step; fixed, because bits depend on it
SMALL = 12 * 12  # images of more pixels gain nothing from lock-step on a CPU


class Stack(nn.Module):
    r"""`width` networks of one architecture side by side: $f(x)_k = f_{\theta_k}(x_k)$ for members $k = 1, \dots, K$.

    Where every parametrised module is a `Linear`, `Conv2d`, `BatchNorm2d` or `GroupNorm`, their weights are laid side by
    side as groups of one wide network, which is faster than one network after another while the networks are small.
    Whether that is the same function is checked on a probe batch; any other network has a stack of width one.

    A member's results depend on the width but not on the other members, so a run gives the same bits in whatever
    company it trains: keep the width fixed.

    Args:
        model: the architecture, any module that takes one tensor; its own weights are not used.
        width: the number of members.
        x: a batch of inputs (B, ...) for the check.
    """

    def __init__(self, model: nn.Module, width: int, x: Tensor):
        super().__init__()
        self.width = 1
        self.net = copy.deepcopy(model)
        self.shapes = {key: value.shape for key, value in model.state_dict().items()}
        if width > 1 and (wide := _widen(model, width)) is not None:
            self.width, self.net = width, wide
            if not self._agrees(model, x[:4]):
                self.width, self.net = 1, copy.deepcopy(model)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (B, K, C, H, W) to outputs (B, K, n_classes)."""
        if self.width == 1:
            return self.net(x[:, 0])[:, None]
        out = self.net(x.flatten(1, 2))
        return out.unflatten(1, (self.width, -1))

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


def _jitter(value: Tensor, k: int) -> Tensor:
    return value * (1 + 0.1 * k) if value.is_floating_point() else value


def _widen(model: nn.Module, width: int) -> nn.Module | None:
    """The module with every parametrised leaf replaced by its wide form; None where there is none."""
    tied = len(list(model.parameters())) != len(list(model.named_parameters(remove_duplicate=False)))
    if tied or any(not _is_stackable(module) for module in model.modules()):
        return None
    wide = copy.deepcopy(model)
    for name, module in list(wide.named_modules()):
        if (make := _WIDE.get(type(module))) is not None:
            parent, _, child = name.rpartition(".")
            if not name:  # the whole network is one such module
                return make(module, width)
            setattr(wide.get_submodule(parent), child, make(module, width))
    return wide


def _is_stackable(module: nn.Module) -> bool:
    owns = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    plain = not isinstance(module, nn.Conv2d) or module.padding_mode == "zeros"
    random = isinstance(module, nn.Dropout | nn.Dropout2d) and module.p > 0  # members would share one random stream
    norm = not isinstance(module, nn.BatchNorm2d) or (module.affine and module.track_running_stats)
    return plain and norm and not random and (not owns or type(module) in _WIDE)


class _StackedLinear(nn.Module):
    """`Linear` for each member: (B, K·I) to (B, K·O)."""

    def __init__(self, linear: nn.Linear, width: int):
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().repeat(width, 1, 1))
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().repeat(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (len(self.weight), -1)).transpose(0, 1).to(self.weight.dtype)  # (K, B, I)
        with torch.autocast(x.device.type, enabled=False):  # the rule below is for one type throughout
            return _MemberwiseLinear.apply(x, self.weight, self.bias).transpose(0, 1).flatten(1)


class _MemberwiseLinear(torch.autograd.Function):
    """x Wᵀ + b, one member after another on fresh copies.

    Batched products and sums round differently by where in memory a member lies; on fresh copies they do not.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        biases = [None] * len(weight) if bias is None else [row.clone() for row in bias]
        return torch.stack([F.linear(_fresh(x[k]), _fresh(weight[k]), biases[k]) for k in range(len(weight))])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        parts = []
        for x_k, weight_k, grad_k in zip(x, weight, grad, strict=True):
            grad_k = _fresh(grad_k)
            parts.append((grad_k @ _fresh(weight_k), grad_k.T @ _fresh(x_k), grad_k.sum(0)))
        dx, dweight, dbias = map(torch.stack, zip(*parts, strict=True))
        return dx, dweight, dbias if ctx.has_bias else None


def _fresh(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


class _StackedBatchNorm(nn.Module):
    """`BatchNorm2d` for each member, with a count of batches of its own for every one."""

    def __init__(self, norm: nn.BatchNorm2d, width: int):
        super().__init__()
        self.eps, self.momentum = norm.eps, norm.momentum
        for key, value in norm.named_parameters():
            setattr(self, key, nn.Parameter(value.detach().repeat(width)))
        for key, value in norm.named_buffers():
            self.register_buffer(key, value.repeat(width))

    def forward(self, x: Tensor) -> Tensor:
        momentum = self.momentum
        if self.training:
            self.num_batches_tracked += 1
            momentum = momentum or 1 / float(self.num_batches_tracked[0])
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(x, mean, var, self.weight, self.bias, self.training, momentum or 0.0, self.eps)


def _stacked_conv(conv: nn.Conv2d, width: int) -> nn.Conv2d:
    wide = nn.Conv2d(
        conv.in_channels * width,
        conv.out_channels * width,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        groups=conv.groups * width,
        bias=conv.bias is not None,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    return wide


def _stacked_group_norm(norm: nn.GroupNorm, width: int) -> nn.GroupNorm:
    wide = nn.GroupNorm(norm.num_groups * width, norm.num_channels * width, norm.eps, norm.affine)
    return wide.to(norm.weight) if norm.affine else wide


_WIDE = {
    nn.Linear: _StackedLinear,
    nn.Conv2d: _stacked_conv,
    nn.BatchNorm2d: _StackedBatchNorm,
    nn.GroupNorm: _stacked_group_norm,
}
