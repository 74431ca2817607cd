"""Vision transformers: torchvision's, for images of any size and number of channels."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from lmclib.errors import LmcError
from lmclib.networks.attention import SelfAttention, n_heads

if TYPE_CHECKING:
    from torchvision.models import VisionTransformer


class _Attention(SelfAttention):
    """As torchvision's encoder calls it."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool) -> tuple[Tensor, None]:
        return super().forward(query), None


def vit(
    shape: tuple[int, int, int], n_classes: int, patch: int, width: int, depth: int, heads: int | None = None
) -> "VisionTransformer":
    r"""The `VisionTransformer` of torchvision (Dosovitskiy et al. 2021): square patches, a class token, `depth` pre-norm blocks of width d, MLPs of 4 d.

    Queries, keys and values, which torchvision keeps in one matrix, are layers of their own here; parameters and function are the same.

    Raises:
        LmcError: images that are not square, or no multiple of the patch.

    Example:
        >>> import torch
        >>> vit((1, 8, 8), 10, patch=2, width=32, depth=2)(torch.zeros(3, 1, 8, 8)).shape
        torch.Size([3, 10])
    """
    from torchvision.models import VisionTransformer  # which loads PyTorch's compiler

    channels, height, columns = shape
    if height != columns or height % patch:
        raise LmcError(
            f"model: a vision transformer with patches of {patch} takes square images of a multiple, not {height}×{columns}"
        )
    net = VisionTransformer(height, patch, depth, n_heads(width, heads), width, 4 * width, num_classes=n_classes)
    if channels != 3:
        net.conv_proj = nn.Conv2d(channels, width, patch, patch)
        nn.init.trunc_normal_(net.conv_proj.weight, std=(channels * patch**2) ** -0.5)
        nn.init.zeros_(net.conv_proj.bias)
    for block in net.encoder.layers:
        block.self_attention = _Attention(width, n_heads(width, heads), causal=False)
    return net
