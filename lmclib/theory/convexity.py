"""Where the cuts of deep networks are convex: measured second differences, and a search over random deep linear networks."""

from collections.abc import Sequence
from itertools import combinations, pairwise

import pandas as pd
import torch
from torch import Tensor

from lmclib.errors import LmcError
from lmclib.theory.linear_networks import Weights, cut_losses, layer_cut

KINDS = ("full rank", "rank deficient", "zero layers")


def smallest_curvature(losses: Tensor) -> Tensor:
    r"""The smallest second difference of losses (..., p) sampled evenly on $[0, 1]$, over $h^2$ and the largest loss: (...).

    Of a quadratic it is $L'' / \max L$ exactly. Convex functions have none below zero, so a negative one, beyond rounding,
    proves that a cut is not convex; a positive one proves nothing between the samples.

    Example:
        >>> t = torch.linspace(0, 1, 5)
        >>> smallest_curvature(torch.stack([4 * t**2, t, 1 - t**2])).tolist()
        [2.0, 0.0, -2.0]
    """
    second = losses.diff(n=2, dim=-1).amin(-1) * (losses.shape[-1] - 1) ** 2
    return second / losses.abs().amax(-1).clamp_min(torch.finfo(losses.dtype).tiny)


def curvatures(
    one: Weights, two: Weights, x: Tensor, y: Tensor, sizes: Sequence[int] | None = None, points: int = 9, **network
) -> pd.DataFrame:
    """The smallest curvature of the cut of every group of layers of the given sizes, for every network of a stack.

    Args:
        one: model 1, L tensors (N, d_k, d_{k-1}).
        two: model 2.
        x: inputs (N, n, d_0) or (n, d_0).
        y: targets (N, n, d_L) or (n, d_L).
        sizes: how many layers move together; 1 to L by default.
        points: evenly spaced alphas.
        **network: `activation` and `loss`, as in `cut_losses`.

    Returns:
        A row a group and network: `size`, `group` (its layers, "0+2"), `network`, `curvature`.

    Example:
        >>> from lmclib.theory.linear_networks import mirrored_pair
        >>> stack = [[w[None] for w in model] for model in mirrored_pair(0.5)]
        >>> curvatures(*stack, torch.ones(1, 1).double(), torch.ones(1, 1).double(), sizes=(2,)).curvature.item() < 0
        True
    """
    alphas = torch.linspace(0, 1, points, dtype=x.dtype)
    tables = [
        pd.DataFrame(
            {
                "size": size,
                "group": "+".join(map(str, group)),
                "curvature": smallest_curvature(cut_losses(one, two, x, y, group, alphas, **network)),
            }
        )
        for size in sizes or range(1, len(one) + 1)
        for group in combinations(range(len(one)), size)
    ]
    return pd.concat([table.rename_axis("network").reset_index() for table in tables], ignore_index=True)


def random_weights(
    widths: Sequence[int], networks: int, generator: torch.Generator, kind: str = "full rank"
) -> list[Tensor]:
    r"""A stack of random networks, Gaussian with variance $1/d_{k-1}$, float64: L tensors (N, d_k, d_{k-1}).

    Args:
        widths: $d_0, \dots, d_L$.
        networks: N.
        generator: the source of randomness.
        kind: `full rank`; `rank deficient` (half the rank a layer could have); or `zero layers` (each with chance ½).

    Raises:
        LmcError: an unknown kind.

    Example:
        >>> w = random_weights((4, 4, 2), 3, torch.Generator().manual_seed(0), "rank deficient")
        >>> [tuple(v.shape) for v in w], torch.linalg.matrix_rank(w[0]).tolist()
        ([(3, 4, 4), (3, 2, 4)], [2, 2, 2])
    """
    if kind not in KINDS:
        raise LmcError(f"kind={kind!r}: must be one of {', '.join(map(repr, KINDS))}")

    def normal(*shape: int) -> Tensor:
        return torch.randn(networks, *shape, generator=generator, dtype=torch.float64)

    weights = []
    for d_in, d_out in pairwise(widths):
        rank = min(d_in, d_out) // 2
        deficient = kind == "rank deficient"
        w = normal(d_out, rank) @ normal(rank, d_in) / max(rank, 1) ** 0.5 if deficient else normal(d_out, d_in)
        if kind == "zero layers":
            w = w * torch.randint(0, 2, (networks, 1, 1), generator=generator)
        weights.append(w / d_in**0.5)
    return weights


def search(networks: int, seed: int, depths: Sequence[int] = (2, 3, 4, 6, 8), examples: int = 12) -> pd.DataFrame:
    """The smallest curvature of all single-layer cuts, in both directions, of many random deep linear networks.

    Widths from 1 to 8, inputs and targets are random too; a third of the networks has layers of half the rank, another
    third has layers that are zero.

    Args:
        networks: at least how many pairs of models.
        seed: of everything random.
        depths: numbers of layers, equally often.
        examples: n of each network's own data.

    Returns:
        A row a network: `kind`, `depth`, `curvature`, and `excess`, the largest difference between passes and the
        explicit quadratic over the largest loss.

    Example:
        >>> table = search(60, seed=0)
        >>> len(table), bool((table.curvature > -1e-10).all())
        (60, True)
    """
    generator = torch.Generator().manual_seed(seed)
    stack = max(1, min(50, networks // (len(depths) * len(KINDS))))
    tables, found = [], 0
    while found < networks:
        for depth in depths:
            for kind in KINDS:
                widths = torch.randint(1, 9, (depth + 1,), generator=generator).tolist()
                one, two = (random_weights(widths, stack, generator, kind) for _ in range(2))
                x, y = (
                    torch.randn(stack, examples, d, generator=generator, dtype=torch.float64)
                    for d in (widths[0], widths[-1])
                )
                ways = [_cuts(*models, x, y) for models in ((one, two), (two, one))]
                smallest, excess = (torch.stack([way[i] for way in ways]) for i in (0, 1))
                found += stack
                tables.append(
                    pd.DataFrame(
                        {"kind": kind, "depth": depth, "curvature": smallest.amin(0), "excess": excess.amax(0)}
                    )
                )
    return pd.concat(tables, ignore_index=True)


def _cuts(one: Weights, two: Weights, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Over all layers: the smallest curvature, and the largest relative difference from the explicit quadratic."""
    alphas = torch.linspace(0, 1, 5, dtype=x.dtype)
    smallest, excess = [], []
    for layer in range(len(one)):
        losses, cut = cut_losses(one, two, x, y, (layer,), alphas), layer_cut(one, two, x, y, layer)
        formula = torch.stack([cut(alpha) for alpha in alphas], -1)
        smallest.append(smallest_curvature(losses))
        excess.append((losses - formula).abs().amax(-1) / losses.amax(-1))
    return torch.stack(smallest).amin(0), torch.stack(excess).amax(0)
