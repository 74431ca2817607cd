"""Self-attention with queries, keys, values and output as layers of their own, so that each has an axis in the layer cube."""

from torch import Tensor, nn
from torch.nn import functional as F

from lmclib.errors import LmcError

HEAD = 16  # the width of one head, unless the number of heads is given


def n_heads(width: int, heads: int | None) -> int:
    """The number of heads of a width: as given, or one for every 16 numbers.

    Raises:
        LmcError: the width is no multiple of it.

    Example:
        >>> n_heads(64, None), n_heads(8, None), n_heads(64, 2)
        (4, 1, 2)
    """
    heads = max(1, width // HEAD) if heads is None else heads
    if width % heads:
        raise LmcError(f"model: width {width} must be a multiple of its {heads} heads")
    return heads


class SelfAttention(nn.Module):
    r"""$\operatorname{softmax}(QK^\top / \sqrt{d_h}) V$ in each of `heads` heads, then an output projection: (B, T, d) to (B, T, d).

    Args:
        width: d.
        heads: how many; d is a multiple of it.
        causal: whether a place attends to none after it.

    Source:
        Vaswani et al. 2017, section 3.2.

    Example:
        >>> import torch
        >>> one = SelfAttention(2, 1, causal=True)(torch.ones(1, 3, 2))  # all places alike: each attends to the same values
        >>> bool(torch.allclose(one[0, 0], one[0, 2]))
        True
    """

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        for linear in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(linear.weight)
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).flatten(2))
