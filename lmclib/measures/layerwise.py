"""Layer-wise barriers: what happens when some of the layers are averaged and the others are not."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch

from lmclib.cube.points import LayerCube
from lmclib.errors import LmcError
from lmclib.measures.barriers import unit_points

BASELINES = ("models", "cut")
ORDERS = ("bottom-up", "top-down", "random", "minimal")
NETWORK = "network"  # what tables call all layers together
MOST_FOR_ALL_SETS = 10  # layers, of which all sets are measured
RANDOM_SETS = 24  # of each of three sizes, where there are more
VALUES = ["loss", "error", "loss_barrier", "error_barrier"]
Groups = Mapping[str, Sequence[str]] | Iterable[Sequence[str]]


def group_barriers(
    cube: LayerCube, groups: Groups, alphas: Sequence[float] = (0.5,), baseline: str = "models"
) -> pd.DataFrame:
    r"""The barriers of sets $S$ of layers, with $e_S$ the corner of the cube where these layers are model 2's.

    Into model 1 the values are $\varphi(\alpha e_S)$, into model 2 $\varphi(1 - (1 - \alpha) e_S)$, and `both` is their
    weighted form, $(1-\alpha)\,\varphi(\alpha e_S) + \alpha\,\varphi(1 - (1-\alpha) e_S)$. From these the baseline is taken off: `models`,
    $(1-\alpha)\varphi(0) + \alpha\varphi(1)$ of the two full models; or `cut`, the chord between the ends of the same cut, of which
    one is a hybrid of both models. A convex cut has no barrier above its chord and may still have one above the models.

    Args:
        cube: the layer cube between two models.
        groups: sets of layer names; a mapping gives each a name of its own.
        alphas: how far these layers move from model 1 to model 2.
        baseline: `models` or `cut`.

    Returns:
        A row a group, direction and point: `group`, `n_layers`, `into` (1, 2 or both), `alpha`, `loss`, `error`,
        `loss_barrier`, `error_barrier`.

    Raises:
        LmcError: an empty group, an unknown layer or baseline, points outside [0, 1].

    Source:
        Layer-wise Linear Mode Connectivity, figure 1; Landscaping Linear Mode Connectivity, proposition 2.

    Example:
        >>> net, x = torch.nn.Linear(1, 1, bias=False), torch.ones(1, 1)
        >>> ends = ({"weight": torch.tensor([[w]])} for w in (-1.0, 1.0))
        >>> cube = LayerCube(net, *ends, (x, torch.zeros(1, 1)), loss="squared")
        >>> group_barriers(cube, {"all": cube.layers}).loss_barrier.tolist()  # w² in the middle less 1, thrice
        [-1.0, -1.0, -1.0]
    """
    return _rows(cube, corners(cube, groups), alphas, (baseline,)).drop(columns="baseline")


def layer_barriers(cube: LayerCube, alphas: Sequence[float] = (0.5,), baseline: str = "models") -> pd.DataFrame:
    r"""The barrier of every single layer: `group_barriers` with $S = \{\ell\}$.

    Returns:
        A row a layer, direction and point: `layer`, `into`, `alpha`, `loss`, `error`, `loss_barrier`, `error_barrier`.

    Raises:
        LmcError: as `group_barriers`.

    Source:
        Layer-wise Linear Mode Connectivity, figure 1; Landscaping Linear Mode Connectivity, proposition 2 (`both`).

    Example:
        >>> net = torch.nn.Sequential(*(torch.nn.Linear(1, 1, bias=False) for _ in range(2)))
        >>> ends = ({"0.weight": torch.tensor([[u]]), "1.weight": torch.tensor([[v]])} for u, v in ((0.5, 2.0), (-2.0, -0.5)))
        >>> cube = LayerCube(net, *ends, (torch.ones(1, 1), torch.ones(1, 1)), loss="squared")
        >>> layer_barriers(cube).query("layer == '1' and into == '1'").loss.item()  # (0.5 · 0.75 - 1)²
        0.390625
    """
    table = group_barriers(cube, {name: [name] for name in cube.layers}, alphas, baseline)
    return table.rename(columns={"group": "layer"}).drop(columns="n_layers")


def cumulative_barriers(
    cube: LayerCube,
    order: str | Sequence[str] = "bottom-up",
    alphas: Sequence[float] = (0.5,),
    baseline: str = "models",
    seed: int = 0,
) -> pd.DataFrame:
    """The barriers of staircases: the first layer of an order, the first two, and so on to all.

    Args:
        cube: the layer cube between two models.
        order: `bottom-up` (from the input), `top-down`, `random`, `minimal` (the first five layers, the last five, then those
            in the middle), or the names of some or all layers.
        alphas: how far the layers move.
        baseline: `models` or `cut`.
        seed: draws the random order.

    Returns:
        A row a step, direction and point: `n_layers`, `layer` (the one added last), `into`, `alpha`, `loss`, `error`,
        `loss_barrier`, `error_barrier`.

    Raises:
        LmcError: an unknown order or layer, a layer twice.

    Source:
        Layer-wise Linear Mode Connectivity, figure 2, and its released code for the other orders.
    """
    names = _ordered(cube, order, seed)
    # a step is named by its number, as a layer's name would not say which came before
    steps = {str(n): names[:n] for n in range(1, len(names) + 1)}
    table = group_barriers(cube, steps, alphas, baseline).drop(columns="group")
    table.insert(1, "layer", [names[n - 1] for n in table.n_layers])
    return table


def window_barriers(
    cube: LayerCube, width: int, alphas: Sequence[float] = (0.5,), baseline: str = "models"
) -> pd.DataFrame:
    """The barriers of `width` neighbouring layers, for every place of that window in the forward pass.

    Returns:
        A row a place, direction and point: `layer` (the first of the window), `n_layers`, `into`, `alpha`, `loss`, `error`,
        `loss_barrier`, `error_barrier`.

    Raises:
        LmcError: a width that no window can have.
    """
    if not 1 <= width <= len(cube.layers):
        raise LmcError(f"width={width}: must be from 1 to the number of layers, {len(cube.layers)}")
    starts = range(len(cube.layers) - width + 1)
    table = group_barriers(cube, {cube.layers[i]: cube.layers[i : i + width] for i in starts}, alphas, baseline)
    return table.rename(columns={"group": "layer"})


def pair_barriers(cube: LayerCube, alphas: Sequence[float] = (0.5,), baseline: str = "models") -> pd.DataFrame:
    """The barriers of every two layers: `layer`, `other` and the columns of `layer_barriers`."""
    pairs = list(combinations(cube.layers, 2))
    if not pairs:
        raise LmcError(f"cube: has one layer, {cube.layers[0]!r}; pairs need two")
    table = group_barriers(cube, {str(i): pair for i, pair in enumerate(pairs)}, alphas, baseline)
    where = table.group.astype(int)
    table = table.drop(columns=["group", "n_layers"])
    table.insert(0, "layer", [pairs[i][0] for i in where])
    table.insert(1, "other", [pairs[i][1] for i in where])
    return table


def null_model(n_layers: int | pd.Series, full: float, depth: int) -> float | pd.Series:
    r"""The barrier of `n_layers` layers if each carried its equal share of the full one: $\frac{s}{L} B$.

    Example:
        >>> null_model(2, full=3.0, depth=6)
        1.0
    """
    return n_layers * full / depth


def layer_table(cube: LayerCube) -> pd.DataFrame:
    """The barriers at α = ½ of every layer and of the whole network, by both baselines; each point is evaluated once.

    Returns:
        A row a layer, baseline and direction: `layer` (the last is `network`, all of them), `baseline`, `into`, `loss`, `error`,
        `loss_barrier`, `error_barrier`.

    Raises:
        LmcError: a layer whose name clashes with `network`.
    """
    return _layers_and_network(cube, BASELINES)


def single_layer_table(cube: LayerCube) -> pd.DataFrame:
    """The rows of `layer_table` against `models`, from half of its points: for these no hybrid of both models is evaluated.

    Returns:
        As `layer_table`, with one `baseline`.

    Raises:
        LmcError: as `layer_table`.

    Example:
        >>> net, x = torch.nn.Linear(1, 1, bias=False), torch.ones(1, 1)
        >>> ends = ({"weight": torch.tensor([[w]])} for w in (-1.0, 1.0))
        >>> cube = LayerCube(net, *ends, (x, torch.zeros(1, 1)), loss="squared")
        >>> single_layer_table(cube).query("into == 'both'").loss_barrier.tolist()  # the only layer, and the network
        [-1.0, -1.0]
    """
    return _layers_and_network(cube, BASELINES[:1])


def _layers_and_network(cube: LayerCube, baselines: Sequence[str]) -> pd.DataFrame:
    if NETWORK in cube.layers:
        raise LmcError(
            f"cube: has a layer called {NETWORK!r}, which is what the table calls all layers; rename the module"
        )
    named = corners(cube, {**{name: [name] for name in cube.layers}, NETWORK: cube.layers})
    return _rows(cube, named, (0.5,), baselines).rename(columns={"group": "layer"}).drop(columns=["n_layers", "alpha"])


def staircase_table(cube: LayerCube, orders: Sequence[str] = ORDERS, seeds: Sequence[int] = (0,)) -> pd.DataFrame:
    """`cumulative_barriers` at α = ½ for several orders at once, the random one once a seed: with `order` and `draw`."""
    tables = [
        cumulative_barriers(cube, order, seed=seed).assign(order=order, draw=seed)
        for order in orders
        for seed in (seeds if order == "random" else (0,))
    ]
    return pd.concat(tables, ignore_index=True)


def set_table(cube: LayerCube) -> pd.DataFrame:
    """The barriers (`into="both"`, α = ½) of all $2^L - 1$ sets of layers, or of a chosen few where L is more than ten.

    The few are single layers, pairs, all steps of the staircases of every order, and random sets of a quarter, a half and three
    quarters of the layers, so that sets of one size can be compared.

    Returns:
        A row a set: `set`, a string of L digits whose ℓ-th is 1 where layer ℓ is in it; `n_layers`, `loss_barrier`, `error_barrier`.
    """
    names = cube.layers
    if len(names) <= MOST_FOR_ALL_SETS:
        sets = [set(chosen) for n in range(1, len(names) + 1) for chosen in combinations(names, n)]
    else:
        sets = [set(chosen) for n in (1, 2) for chosen in combinations(names, n)]
        for order in (_ordered(cube, order, 0) for order in ORDERS):
            sets += [set(order[:n]) for n in range(3, len(order) + 1)]
        rng = np.random.default_rng(0)
        for size in (len(names) * quarters // 4 for quarters in (1, 2, 3)):
            sets += [set(rng.choice(names, size, replace=False).tolist()) for _ in range(RANDOM_SETS)]
    groups = {layer_key(names, chosen): sorted(chosen, key=names.index) for chosen in sets}
    table = group_barriers(cube, groups).query("into == 'both'").rename(columns={"group": "set"})
    return table[["set", "n_layers", "loss_barrier", "error_barrier"]].reset_index(drop=True)


def layer_key(layers: Sequence[str], chosen: Iterable[str]) -> str:
    """A set of layers as a string of digits, 1 for those that are in it.

    Example:
        >>> layer_key(("first", "second", "third"), {"third", "first"})
        '101'
    """
    chosen = set(chosen)
    return "".join("1" if name in chosen else "0" for name in layers)


def corners(cube: LayerCube, groups: Groups) -> dict[str, torch.Tensor]:
    """Each group's name and its corner of the cube (L,), checked.

    Raises:
        LmcError: no groups, an empty one, an unknown layer.
    """
    items = groups
    if not isinstance(groups, Iterable) or isinstance(groups, str):
        raise LmcError(f"groups={groups!r}: must hold groups of layers, such as [[{cube.layers[0]!r}]]")
    if not isinstance(groups, Mapping):
        chosen = [tuple(group) for group in groups]
        items = {" + ".join(group): group for group in chosen}
        if len(items) < len(chosen):
            raise LmcError("groups: holds one group twice; must hold each once")
    if not items:
        raise LmcError("groups: must hold at least one group of layers")
    found = {}
    for name, group in items.items():
        if isinstance(group, str) or not len(group) or len(set(group)) < len(group):
            raise LmcError(f"groups: {name!r} is {group!r}; must be one or more layer names, none of them twice")
        if unknown := [layer for layer in group if layer not in cube.layers]:
            nearest = difflib.get_close_matches(unknown[0], cube.layers, 1, 0.0)[0]
            raise LmcError(f"groups: {unknown[0]!r} is no layer; the nearest name is {nearest!r}")
        found[name] = torch.tensor([float(layer in group) for layer in cube.layers], dtype=torch.float64)
    return found


def _rows(
    cube: LayerCube, named: dict[str, torch.Tensor], alphas: Sequence[float], baselines: Sequence[str]
) -> pd.DataFrame:
    """The rows of `group_barriers` for each baseline."""
    for baseline in baselines:
        if baseline not in BASELINES:
            raise LmcError(f"baseline={baseline!r}: must be one of {', '.join(map(repr, BASELINES))}")
    if (grid := unit_points(alphas)) is None:
        said = list(alphas) if isinstance(alphas, tuple) else alphas
        raise LmcError(f"alphas={said!r}: must be at least one number in [0, 1]")
    alphas = grid.tolist()
    value = _evaluate(cube, named, [0, *alphas, 1] if "cut" in baselines else alphas)
    rows = []
    for name, corner in named.items():
        for baseline in baselines:
            for alpha in alphas:
                one, two = value(alpha * corner), value(1 - (1 - alpha) * corner)
                ends = _chords(value, corner, alpha, baseline)
                both = (1 - alpha) * one + alpha * two
                base = (1 - alpha) * ends[0] + alpha * ends[1]
                for into, at, below in (("1", one, ends[0]), ("2", two, ends[1]), ("both", both, base)):
                    rows.append((name, int(corner.sum()), baseline, into, alpha, *at, *(at - below)))
    return pd.DataFrame(rows, columns=["group", "n_layers", "baseline", "into", "alpha", *VALUES])


def _chords(value: Callable, corner: torch.Tensor, alpha: float, baseline: str) -> list[np.ndarray]:
    """What the values into model 1 and into model 2 are compared with."""
    if baseline == "models":
        return [(1 - alpha) * value(0 * corner) + alpha * value(1 + 0 * corner)] * 2
    return [
        (1 - alpha) * value(0 * corner) + alpha * value(corner),
        (1 - alpha) * value(1 - corner) + alpha * value(1 + 0 * corner),
    ]


def _evaluate(cube: LayerCube, named: dict[str, torch.Tensor], alphas: Sequence[float]):
    """A look-up of (loss, error) at all points that any baseline of these groups needs, each evaluated once."""
    ends = torch.zeros(len(cube.layers), dtype=torch.float64), torch.ones(len(cube.layers), dtype=torch.float64)
    points: dict[tuple, torch.Tensor] = {tuple(end.tolist()): end for end in ends}
    for corner in named.values():
        for alpha in alphas:
            for point in (alpha * corner, 1 - (1 - alpha) * corner):
                points[tuple(point.tolist())] = point
    values = cube(torch.stack(list(points.values())))
    known = dict(zip(points, torch.stack(values, 1).numpy(), strict=True))
    return lambda point: known[tuple(point.tolist())]


def _ordered(cube: LayerCube, order: str | Sequence[str], seed: int) -> list[str]:
    names = list(cube.layers)
    if not isinstance(order, str):
        return list(order)
    if order not in ORDERS:
        raise LmcError(f"order={order!r}: must be one of {', '.join(map(repr, ORDERS))}, or a sequence of layer names")
    if order == "random":
        return np.random.default_rng(seed).permutation(names).tolist()
    if order == "minimal":
        ends = [*names[:5], *names[max(5, len(names) - 5) :]]
        return [*ends, *(name for name in names if name not in ends)]
    return names if order == "bottom-up" else names[::-1]
