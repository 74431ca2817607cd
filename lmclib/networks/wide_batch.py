"""Several networks as one: their batches one after another, as transformers want it."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F


def evaluate(wide: nn.Module, x: Tensor) -> Tensor:
    """Map inputs (B, K, ...) to outputs (B, K, ...)."""
    size, width = x.shape[:2]
    each = {key: value.repeat_interleave(size, 0) for key, value in _for_all_examples(wide).items()}
    out = functional_call(wide, each, (x.transpose(0, 1).flatten(0, 1),))
    return out.unflatten(0, (width, size)).transpose(0, 1)


def _for_all_examples(wide: nn.Module) -> dict[str, Tensor]:
    modules = [(name, module) for name, module in wide.named_modules() if not isinstance(module, _Wide)]
    return {
        f"{name}.{key}".lstrip("."): value
        for name, module in modules
        for key, value in module.named_parameters(recurse=False)
    }


def is_stackable(module: nn.Module) -> bool:
    """Whether a module has a wide form, or needs none but what is its own for all examples, such as a class token (1, ...)."""
    if isinstance(module, nn.Conv2d):  # of patches that lie side by side: others are faster as groups of channels
        patches = module.kernel_size == module.stride and not any(module.padding) and module.dilation == (1, 1)
        return patches and module.groups == 1
    if isinstance(module, nn.LayerNorm):
        return len(module.normalized_shape) == 1 and module.elementwise_affine
    if type(module) in WIDE:
        return True
    random = isinstance(module, nn.Dropout) and module.p > 0  # members would share one random stream
    for_all = all(value.dim() > 1 and len(value) == 1 for value in module.parameters(recurse=False))
    return for_all and not random and not list(module.buffers(recurse=False))


class _Wide(nn.Module):
    """A module for each member: weights (K, ...), inputs (K·B, ...)."""

    def __init__(self, module: nn.Module, width: int):
        super().__init__()
        self.bias = None
        for key, value in module.named_parameters():
            setattr(self, key, nn.Parameter(value.detach().repeat(width, *[1] * value.dim())))

    def linear(self, x: Tensor) -> Tensor:
        """The affine map x Wᵀ + b of each member, for x (K, N, I): (K, N, O)."""
        weight = self.weight.flatten(2).transpose(1, 2)
        return torch.bmm(x, weight) if self.bias is None else torch.baddbmm(self.bias[:, None], x, weight)


class _WideLinear(_Wide):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.reshape(len(self.weight), -1, x.shape[-1])).view(*x.shape[:-1], -1)


class _WideLayerNorm(_Wide):
    def __init__(self, norm: nn.LayerNorm, width: int):
        super().__init__(norm, width)
        self.shape, self.eps = norm.normalized_shape, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        out = F.layer_norm(x, self.shape, eps=self.eps).reshape(len(self.weight), -1, x.shape[-1])
        out = out * self.weight[:, None]
        return (out if self.bias is None else out + self.bias[:, None]).view(x.shape)


class _WidePatches(_Wide):
    def __init__(self, conv: nn.Conv2d, width: int):
        super().__init__(conv, width)
        self.sides = conv.kernel_size

    def forward(self, x: Tensor) -> Tensor:
        height, width = (x.shape[dim] // side for dim, side in zip((2, 3), self.sides, strict=True))
        x = x[:, :, : height * self.sides[0], : width * self.sides[1]]  # a convolution leaves the rest out
        x = x.unflatten(3, (width, -1)).unflatten(2, (height, -1)).permute(0, 2, 4, 1, 3, 5)
        out = self.linear(x.reshape(len(self.weight), -1, self.weight[0, 0].numel()))
        return out.view(len(x), height * width, -1).transpose(1, 2).unflatten(2, (height, width))


WIDE = {nn.Linear: _WideLinear, nn.LayerNorm: _WideLayerNorm, nn.Conv2d: _WidePatches}
