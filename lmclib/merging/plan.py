"""How two models are best averaged: one coefficient a layer, fitted on one part of the data and judged on another."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from lmclib.cube.batching import Batches, is_pair
from lmclib.cube.points import LayerCube, Values
from lmclib.cube.statistics import own_statistics, tracked_norms
from lmclib.device import full_precision
from lmclib.errors import LmcError
from lmclib.merging.descent import descended
from lmclib.merging.ends import Cube, on_data
from lmclib.merging.streamed import StreamedCube
from lmclib.networks.differentiable import copied

FIRST, SECOND = "first model", "second model"
UNIFORM, BEST_UNIFORM = "uniform average", "best uniform ratio"
PER_LAYER, LEAVE_OUT = "one ratio a layer", "leave out the worst layers"
ENDS = (FIRST, SECOND)
INTERPOLATED, RECOMPUTED = "interpolate", "recompute"  # statistics
GRID = 11  # uniform ratios that are tried before the best is refined
REFINED = 8  # evaluations of that refinement
AT_ONCE = 500  # examples that statistics are recomputed from at a time


@dataclass(frozen=True)
class MergePlan:
    """What to do with two models.

    Attributes:
        layers: the axes of the cube.
        candidates: a row a candidate and treatment of statistics, the best first: `candidate`, `norm_stats`, `fit_loss` (nats, on the part
            that coefficients were fitted on; NaN where statistics are recomputed), `loss` and `error` on held-out data.
        coefficients: (L,) of every candidate, by name: 0 is model 1's layer, 1 model 2's.
        chosen: the candidate with the lowest held-out loss.
        norm_stats: whether it takes interpolated or recomputed statistics.
        left_out: the layers that `leave out the worst layers` takes from the better model alone, the worst first.
        fit: the cube on the part that coefficients were fitted on.
        judge: the cube on the part that candidates were judged on.
        aligned: whether the second model's units were put in the order of the first one's before.
    """

    layers: tuple[str, ...]
    candidates: pd.DataFrame
    coefficients: dict[str, tuple[float, ...]]
    chosen: str
    norm_stats: str
    left_out: tuple[str, ...]
    fit: Cube = field(repr=False)
    judge: Cube = field(repr=False)
    aligned: bool = False

    @property
    def averages(self) -> bool:
        """Whether some average beats the better of the two models on held-out data; if not: do not average."""
        return self.chosen not in ENDS

    def state(self, candidate: str | None = None, norm_stats: str | None = None) -> dict[str, Tensor]:
        """The state dict of a candidate, in the type that the cube computes in; of the chosen one by default.

        Raises:
            LmcError: an unknown candidate.
        """
        name = candidate or self.chosen
        if name not in self.coefficients:
            raise LmcError(f"candidate={name!r}: must be one of {', '.join(map(repr, self.coefficients))}")
        state = self.fit.state(torch.tensor(self.coefficients[name], dtype=torch.float64))
        treatment = norm_stats or (INTERPOLATED if candidate else self.norm_stats)
        return recomputed_state(self.fit, state) if treatment == RECOMPUTED else state

    def value(self, candidate: str, norm_stats: str = INTERPOLATED) -> pd.Series:
        """The row of a candidate."""
        rows = self.candidates
        return rows[(rows.candidate == candidate) & (rows.norm_stats == norm_stats)].iloc[0]

    @property
    def best(self) -> pd.Series:
        """The row of the chosen candidate."""
        return self.value(self.chosen, self.norm_stats)

    @property
    def better_end(self) -> pd.Series:
        """The row of the better of the two models."""
        rows = self.candidates
        return rows[rows.candidate.isin(ENDS)].sort_values("loss", kind="stable").iloc[0]

    def __str__(self) -> str:
        better = self.better_end
        if not self.averages:
            return f"Do not average: the {better.candidate} has the lowest held-out loss, {better.loss:.4f}"
        best = self.best
        stats = ", statistics recomputed" if self.norm_stats == RECOMPUTED else ""
        said = (
            f"{self.chosen}{stats}: held-out loss {best.loss:.4f}, where the {better.candidate} has {better.loss:.4f}"
        )
        if self.chosen == LEAVE_OUT:
            said += f"; left out: {', '.join(self.left_out)}"
        return f"{'Align the units, then average' if self.aligned else 'Average'}, {said}"


def merge_plan(cube: Cube, held_out: Batches | None = None, evaluations: int = 20) -> MergePlan:
    r"""Find the coefficients $a^\star = \arg\min_{a \in [0, 1]^L} \varphi(a)$ of every layer, and say whether to average at all.

    $\varphi$ is minimised with its exact gradient by L-BFGS-B within the box, from the midpoint, from both ends and from the average
    that leaves out its worst layers, on one part of the data. On the other part the result is compared with both models, the uniform average, the best uniform ratio and an average that
    leaves out its worst layers: each layer is given back to the better model in turn, and as many are left out, those first that gain the
    most, as the fit asks for. What has the lowest held-out loss is chosen, so the choice is never worse there than the better model. Where layers
    keep running statistics every average is judged twice: interpolated, and recomputed from the part that was fitted on.

    Args:
        cube: the layer cube between two models; statistics are treated both ways whatever it says itself.
        held_out: data to judge on; by default every second example (or batch) of the cube's own data, and the others are fitted on.
        evaluations: of the loss with its gradient, from each of the four starts.

    Returns:
        The plan.

    Raises:
        LmcError: too few data to be split in two, no evaluations, a loss without a derivative.

    Source:
        The coefficients of a layer-wise average as in AdaMerging (Yang et al. 2024), with labels in place of entropies; candidates as in
        model soups (Wortsman et al. 2022).

    Example:
        >>> net = torch.nn.Sequential(*(torch.nn.Linear(1, 1, bias=False) for _ in range(2)))
        >>> ends = ({"0.weight": torch.tensor([[u]]), "1.weight": torch.tensor([[v]])} for u, v in ((1.0, 1.0), (-1.0, 3.0)))
        >>> data = torch.ones(4, 1), torch.full((4, 1), 1.75)  # (u v - 1.75)² is zero with u = 1, of the first, and v = 1.75
        >>> plan = merge_plan(LayerCube(net, *ends, data, loss="squared"))
        >>> plan.averages, plan.chosen, round(float(plan.best.loss), 6)
        (True, 'one ratio a layer', 0.0)
    """
    if evaluations < 1:
        raise LmcError(f"evaluations={evaluations}: must be at least 1")
    fit, judge = on_parts(cube, held_out)
    found, left_out = _candidates(fit, evaluations)
    names, points = list(found), torch.stack(list(found.values()))
    fitted, judged = fit(points), judge(points)
    rows = [
        (name, INTERPOLATED, fitted.loss[i].item(), judged.loss[i].item(), judged.error[i].item())
        for i, name in enumerate(names)
    ]
    if isinstance(cube, LayerCube) and tracked_norms(cube.model):
        for name in names:
            if name not in ENDS:
                loss, error = measured(judge, recomputed_state(fit, fit.state(found[name])))
                rows.append((name, RECOMPUTED, float("nan"), loss.item(), error.item()))
    table = pd.DataFrame(rows, columns=["candidate", "norm_stats", "fit_loss", "loss", "error"])
    # of equals the first: an end before an average
    table = table.sort_values("loss", kind="stable", ignore_index=True)
    return MergePlan(
        layers=cube.layers,
        candidates=table,
        coefficients={name: tuple(point.tolist()) for name, point in found.items()},
        chosen=table.candidate[0],
        norm_stats=table.norm_stats[0],
        left_out=left_out,
        fit=fit,
        judge=judge,
    )


def recomputed_state(cube: LayerCube, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the statistics that the cube's data have in it: the means over batches of their moments."""
    state = dict(state)
    net = copied(cube.model)
    net.load_state_dict(state)
    names = {module: name for name, module in net.named_modules()}
    sums, count = {}, 0
    with torch.no_grad(), full_precision():
        for x, y in cube.batching.of(cube.data, AT_ONCE):
            with own_statistics(net) as moments:
                net(x)
            count += len(y)
            for norm, pair in moments.items():
                sums[norm] = [total + len(y) * part for total, part in zip(sums.get(norm, (0, 0)), pair, strict=True)]
    for norm, (mean, var) in sums.items():
        state[f"{names[norm]}.running_mean"], state[f"{names[norm]}.running_var"] = mean / count, var / count
    return state


@torch.no_grad()
def measured(cube: Cube, state: Mapping[str, Tensor]) -> Values:
    """Loss and error of one state dict, of any floating type, on a cube's data: by a plain pass of the network, as who loads it makes."""
    net = cube.model if isinstance(cube, StreamedCube) else copied(cube.model).eval()
    for key, target in net.state_dict().items():  # one by one, as they may be made when they are asked for
        target.copy_(state[key])
    sums, count = torch.zeros(2, dtype=torch.float64), 0
    with full_precision():
        for x, y in cube.batching.of(cube.data):
            out = net(x)
            wrong = (
                (out.argmax(1) != y).sum()
                if out.dim() == 2 and not y.is_floating_point()
                else out.new_tensor(torch.nan)
            )
            sums += torch.stack([len(y) * cube.loss(out, y), wrong]).double().cpu()
            count += len(y)
    return Values(*(sums / count))


def _candidates(fit: Cube, evaluations: int) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The points of the cube that are compared, both ends first, and the layers that one of them leaves out."""
    n_layers = len(fit.layers)
    zero, one = torch.zeros(n_layers, dtype=torch.float64), torch.ones(n_layers, dtype=torch.float64)
    grid = torch.linspace(0, 1, GRID, dtype=torch.float64)
    along = fit(grid[:, None].repeat(1, n_layers)).loss
    better = 0.0 if along[0] <= along[-1] else 1.0
    without, left_out = _left_out(fit, better)
    best = _refined(fit, grid, along)
    starts = [0.5 * one, zero, one, without]
    return {
        FIRST: zero,
        SECOND: one,
        UNIFORM: one / 2,
        BEST_UNIFORM: best * one,
        LEAVE_OUT: without,
        PER_LAYER: min((descended(fit, start, evaluations) for start in starts), key=lambda found: found[1])[0],
    }, left_out


def _refined(fit: Cube, grid: Tensor, along: Tensor) -> float:
    """The best uniform ratio: between the neighbours of the best on a grid."""
    i = int(along.argmin())
    bounds = grid[max(0, i - 1)].item(), grid[min(len(grid) - 1, i + 1)].item()
    options = {"maxiter": REFINED, "xatol": 1e-3}
    found = minimize_scalar(lambda a: fit(a).loss.item(), bounds=bounds, method="bounded", options=options)
    return float(found.x) if found.fun < along[i].item() else grid[i].item()


def _left_out(fit: Cube, better: float) -> tuple[Tensor, tuple[str, ...]]:
    """The uniform average with some layers from the better end alone, those that gain most by it, as many as fit best."""
    n_layers = len(fit.layers)
    middle = torch.full((n_layers,), 0.5, dtype=torch.float64)
    if n_layers == 1:
        return middle, ()
    single = torch.where(torch.eye(n_layers, dtype=torch.bool), better, middle)
    order = fit(single).loss.argsort(stable=True).tolist()
    counts = _counts(n_layers)
    steps = middle.repeat(len(counts), 1)
    for row, count in zip(steps, counts, strict=True):
        row[order[:count]] = better
    best = int(fit(steps).loss.argmin())
    return steps[best], tuple(fit.layers[i] for i in order[: counts[best]])


def _counts(n_layers: int) -> list[int]:
    """How many layers are left out: each number up to four, then ever coarser.

    Example:
        >>> _counts(20)
        [1, 2, 3, 4, 6, 8, 12, 16]
    """
    counts = {n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64) if n < n_layers}
    return sorted(counts)


def on_parts(cube: Cube, held_out: Batches | None = None) -> tuple[Cube, Cube]:
    """The cube on the part of the data to fit on and on that to judge on: every second example or batch, or what is held out.

    Raises:
        LmcError: fewer than two examples or batches.
    """
    if held_out is not None:
        return on_data(cube, cube.data), on_data(cube, held_out)
    if is_pair(cube.data):
        one, two = (tuple(part[start::2] for part in cube.data) for start in (0, 1))
        enough = len(two[1]) > 0
    else:
        one, two = (EverySecond(cube.data, start) for start in (0, 1))
        enough = next(iter(two), None) is not None
    if not enough:
        raise LmcError("data: cannot be split in two; must hold at least two examples, or batches, or give held_out")
    return on_data(cube, one), on_data(cube, two)


class EverySecond:
    """Every second batch, from the first or from the second one on."""

    def __init__(self, batches: Iterable, start: int):
        self.batches, self.start = batches, start

    def __iter__(self) -> Iterator:
        return islice(iter(self.batches), self.start, None, 2)
