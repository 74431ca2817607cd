"""Several networks as one: the channels of all of them side by side, as groups."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def evaluate(wide: nn.Module, x: Tensor) -> Tensor:
    """Map inputs (B, K, C, H, W) to outputs (B, K, n_classes)."""
    return wide(x.flatten(1, 2)).unflatten(1, (x.shape[1], -1))


def is_stackable(module: nn.Module) -> bool:
    """Whether a module has a wide form, or needs none."""
    owns = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    plain = not isinstance(module, nn.Conv2d) or module.padding_mode == "zeros"
    random = isinstance(module, nn.Dropout | nn.Dropout2d) and module.p > 0  # members would share one random stream
    norm = not isinstance(module, nn.BatchNorm2d) or (module.affine and module.track_running_stats)
    return plain and norm and not random and (not owns or type(module) in WIDE)


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


WIDE = {
    nn.Linear: _StackedLinear,
    nn.Conv2d: _stacked_conv,
    nn.BatchNorm2d: _StackedBatchNorm,
    nn.GroupNorm: _stacked_group_norm,
}
