"""A small language model: a causal transformer over characters."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmclib.errors import LmcError
from lmclib.networks.attention import SelfAttention, n_heads

DEVIATION = 0.02  # of GPT-2's initial weights


class Block(nn.Module):
    r"""$x \leftarrow x + \operatorname{attention}(\operatorname{norm}(x))$, then $x \leftarrow x + \operatorname{MLP}(\operatorname{norm}(x))$."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), SelfAttention(width, heads, causal=True)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    r"""GPT-2's network over characters: tokens (B, T) to scores of the next one (B, T, V).

    Args:
        shape: (T,), the context: how many tokens it sees at most.
        n_classes: V, the size of the vocabulary.
        width: of the residual stream.
        depth: the number of blocks.
        heads: of attention; one for every 16 of the width by default.

    Raises:
        LmcError: the data are images.

    Source:
        Radford et al. 2019; the projection to scores has weights of its own and no bias.

    Example:
        >>> GPT((8,), 65, width=32, depth=2)(torch.zeros(3, 8, dtype=torch.int64)).shape
        torch.Size([3, 8, 65])
    """

    def __init__(self, shape: tuple[int, ...], n_classes: int, width: int, depth: int, heads: int | None = None):
        super().__init__()
        if len(shape) != 1:
            raise LmcError(f"model: a language model takes text, not images of {'×'.join(map(str, shape))}")
        self.token, self.position = nn.Embedding(n_classes, width), nn.Embedding(shape[0], width)
        self.blocks = nn.Sequential(*(Block(width, n_heads(width, heads)) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, n_classes, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                # what adds to the residual stream starts smaller the deeper the network is
                adds = name.endswith(("attention.out.weight", "down.weight"))
                nn.init.normal_(parameter, std=DEVIATION / (2 * depth) ** 0.5 if adds else DEVIATION)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens.long()
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.norm(self.blocks(self.token(tokens) + self.position(places))))
