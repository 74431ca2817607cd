"""More than two models: the uniform soup, and a greedy one that takes models in one after the other, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

from lmclib.cube.batching import is_pair
from lmclib.cube.interpolation import Interpolation
from lmclib.cube.points import LayerCube
from lmclib.cube.statistics import tracked_norms
from lmclib.errors import LmcError
from lmclib.merging.plan import INTERPOLATED, RECOMPUTED, measured, merge_plan, on_parts, recomputed_state
from lmclib.networks.layers import Layer

UNIFORM_SOUP, GREEDY_SOUP = "uniform soup", "greedy soup over layers"
State = dict[str, Tensor]


@dataclass(frozen=True)
class SoupPlan:
    """What to do with many models.

    Attributes:
        layers: the axes.
        candidates: as in `MergePlan`; single models are called `model 1`, `model 2`, …
        weights: (K, L) of every candidate, by name: how much of each of K models each layer has.
        chosen: the candidate with the lowest held-out loss.
        norm_stats: whether it takes interpolated or recomputed statistics.
        states: the state dict of every candidate and treatment.
        fit: a cube on the part that was fitted on.
        judge: a cube on the part that candidates were judged on.
    """

    layers: tuple[str, ...]
    candidates: pd.DataFrame
    weights: dict[str, Tensor]
    chosen: str
    norm_stats: str
    states: dict[tuple[str, str], State] = field(repr=False)
    fit: LayerCube = field(repr=False)
    judge: LayerCube = field(repr=False)

    @property
    def averages(self) -> bool:
        """Whether some soup beats the best single model on held-out data."""
        return self.chosen in (UNIFORM_SOUP, GREEDY_SOUP)

    @property
    def better_end(self) -> pd.Series:
        """The row of the best single model."""
        rows = self.candidates
        return rows[~rows.candidate.isin((UNIFORM_SOUP, GREEDY_SOUP))].iloc[0]

    @property
    def best(self) -> pd.Series:
        """The row of the chosen candidate."""
        return self.candidates.iloc[0]

    def state(self, candidate: str | None = None, norm_stats: str | None = None) -> State:
        """The state dict of a candidate; of the chosen one by default."""
        return self.states[candidate or self.chosen, norm_stats or (INTERPOLATED if candidate else self.norm_stats)]

    def __str__(self) -> str:
        if not self.averages:
            return (
                f"Do not average: {self.better_end.candidate} has the lowest held-out loss, {self.better_end.loss:.4f}"
            )
        stats = ", statistics recomputed" if self.norm_stats == RECOMPUTED else ""
        better = self.better_end
        said = f"Average, {self.chosen}{stats}: held-out loss {self.best.loss:.4f}, where {better.candidate} has {better.loss:.4f}"
        return f"{said}; pair by pair, so not the best of all mixtures"


def soup_plan(cube: LayerCube, states: Sequence[State], axes: Sequence[Layer], evaluations: int = 20) -> SoupPlan:
    r"""Plan the average of K models, as far as layer cubes between two reach.

    The uniform soup is $\frac1K \sum_k \theta_k$. The greedy one begins with the best model; each other one, the better ones first, is merged into it as
    `merge_plan` does between two, and kept where that lowers the loss on a quarter of the data that nothing was fitted on. Both are
    compared with all single models on the half that is held out.

    Args:
        cube: any cube of the network, whose data and loss are used; data are a pair of tensors.
        states: K state dicts.
        axes: what moves.
        evaluations: as `merge_plan` takes them, for each pair.

    Raises:
        LmcError: less than four examples, or batches.

    Source:
        Model soups (Wortsman et al. 2022): uniform and greedy; here a soup has a ratio a layer.
    """
    if not is_pair(cube.data) or len(cube.data[1]) < 4:
        raise LmcError("data: a soup needs a pair of tensors of at least 4 examples")
    fit, judge = on_parts(cube)
    losses = [measured(fit, state).loss.item() for state in states]
    order = sorted(range(len(states)), key=lambda k: losses[k])
    one_hot = torch.eye(len(states), dtype=torch.float64)
    weights = {f"model {k + 1}": one_hot[k][:, None].repeat(1, len(axes)) for k in range(len(states))}
    made = {(f"model {k + 1}", INTERPOLATED): state for k, state in enumerate(states)}
    made[UNIFORM_SOUP, INTERPOLATED] = _uniform(states)
    weights[UNIFORM_SOUP] = torch.full((len(states), len(axes)), 1 / len(states), dtype=torch.float64)
    made[GREEDY_SOUP, INTERPOLATED], weights[GREEDY_SOUP] = _greedy(fit, states, axes, order, one_hot, evaluations)
    if tracked_norms(cube.model):
        for name in (UNIFORM_SOUP, GREEDY_SOUP):
            made[name, RECOMPUTED] = recomputed_state(fit, made[name, INTERPOLATED])
    rows = []
    for (name, stats), state in made.items():
        values = measured(judge, state)
        rows.append((name, stats, values.loss.item(), values.error.item()))
    table = pd.DataFrame(rows, columns=["candidate", "norm_stats", "loss", "error"])
    table = table.sort_values("loss", kind="stable", ignore_index=True)
    names = tuple(axis.name for axis in axes)
    return SoupPlan(names, table, weights, table.candidate[0], table.norm_stats[0], made, fit, judge)


def _uniform(states: Sequence[State]) -> State:
    """The mean of all; whole numbers are the first model's."""
    return {
        key: sum(state[key].double() for state in states).div(len(states)).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in states[0].items()
    }


def _greedy(
    fit: LayerCube, states: Sequence[State], axes: Sequence[Layer], order: list[int], one_hot: Tensor, evaluations: int
) -> tuple[State, Tensor]:
    """The best model with the others merged in, one after the other; and the weights of all models in it."""
    own, accept = on_parts(fit)
    soup, weights = states[order[0]], one_hot[order[0]][:, None].repeat(1, len(axes))
    best = measured(accept, soup).loss.item()
    for k in order[1:]:
        pair = LayerCube(fit.model, soup, states[k], own.data, fit.loss)
        pair.ends = Interpolation(soup, states[k], axes)
        plan = merge_plan(pair, evaluations=evaluations)
        state, a = plan.state(plan.chosen), torch.tensor(plan.coefficients[plan.chosen], dtype=torch.float64)
        loss = measured(accept, state).loss.item()
        if loss < best:
            soup, best = state, loss
            weights = (1 - a) * weights + a * one_hot[k][:, None]
    return soup, weights
