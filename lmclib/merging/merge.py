"""Merging checkpoints from end to end: read, compare, plan, judge, write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lmclib.cube.batching import is_pair
from lmclib.cube.points import LayerCube
from lmclib.errors import LmcError
from lmclib.measures.alignment import align
from lmclib.merging.checkpoints import Checkpoint
from lmclib.merging.data import MOST, Pair, check_classes, check_examples, load_examples, loss_for
from lmclib.merging.ends import Cube, Ends, Loss, covering, open_ends
from lmclib.merging.models import architecture, is_of_the_book, load_model
from lmclib.merging.plan import MergePlan, measured, merge_plan
from lmclib.merging.soup import SoupPlan, soup_plan
from lmclib.merging.streamed import StreamedCube
from lmclib.merging.writing import (
    MERGEKIT,
    Mixture,
    Rounded,
    check_output,
    today,
    type_name,
    write_card,
    write_merged,
    write_recipe,
)
from lmclib.provenance import packages

PathLike = str | Path


@dataclass(frozen=True)
class Opened:
    """Checkpoints, their network and the data that they are measured on, all checked.

    Attributes:
        ends: the first checkpoint with each of the others.
        data: a pair of tensors.
        loss: as `LayerCube` takes it.
        model_name: what the network is called in a card.
        data_name: what the data are called in a card.
        partition: what is averaged with one coefficient.
    """

    ends: tuple[Ends, ...]
    data: Pair = field(repr=False)
    loss: Loss
    model_name: str
    data_name: str
    partition: str

    def cube(self, norm_stats: str = "interpolate") -> Cube:
        """The layer cube between the first two."""
        return self.ends[0].cube(self.data, self.loss, norm_stats)


@dataclass(frozen=True)
class Merged:
    """What came out of a merge.

    Attributes:
        plan: what was found.
        path: the file that was written; None where nothing was.
        loss: the held-out loss of that file, in nats for cross-entropy.
        facts: all that its header and its card say.
    """

    plan: MergePlan | SoupPlan
    path: Path | None
    loss: float
    facts: dict[str, object] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.plan}. {f'Written to {self.path}' if self.path else 'Nothing was written'}."


def open_checkpoints(
    paths: Sequence[PathLike],
    model: str | nn.Module | None,
    data: str | Pair,
    partition: str = "layers",
    examples: int = MOST,
    loss: Loss | None = None,
) -> Opened:
    """Open checkpoints and data and check that all of them go together, before anything is measured.

    Args:
        paths: two checkpoints or more.
        model: a network, or its name as `load_model` takes it.
        data: a pair of tensors (x, y), or its name as `load_examples` takes it.
        partition: as `partitioned` takes it.
        examples: how many at most, evenly spaced.
        loss: as `LayerCube` takes it; by default cross-entropy where targets are classes or tokens, else squared.

    Raises:
        LmcError: whatever does not go together, in one line.
    """
    if len(paths) < 2:
        raise LmcError(f"checkpoints: there is {len(paths)}; must be at least two")
    checkpoints = [Checkpoint(path) for path in paths]
    of_the_book = is_of_the_book(model)  # whose first and last layers are made for the data
    if not of_the_book:
        net = load_model(model, checkpoints[0]) if not isinstance(model, nn.Module) else model.eval()
    if isinstance(data, str):
        folder = next((Path(name) for name in (model, paths[0]) if _is_folder(name)), None)
        pair, data_name = load_examples(data, folder, examples, of_the_book), Path(data).name
    elif is_pair(data) and len(data[1]) == len(data[0]) > 1:
        pair, data_name = data, "the given tensors"
    else:
        raise LmcError("data: must be a pair of tensors (x, y) of the same length, at least 2, or a name")
    if of_the_book:
        net = load_model(model, checkpoints[0], tuple(pair[0].shape[1:]))
        if isinstance(data, str):
            check_classes(data, net, pair)
    check_examples(data_name, net, pair)
    ends = tuple(open_ends(net, checkpoints[0], other, pair[0], partition) for other in checkpoints[1:])
    name = model if isinstance(model, str) else architecture(net) or type(net).__name__
    name = Path(name).name if _is_folder(name) else name
    return Opened(ends, pair, loss or loss_for(pair), name, data_name, partition)


def merge(
    first: PathLike,
    second: PathLike,
    *others: PathLike,
    model: str | nn.Module | None = None,
    data: str | Pair,
    output: PathLike | None = None,
    partition: str = "layers",
    examples: int = MOST,
    evaluations: int = 20,
    loss: Loss | None = None,
    anyway: bool = False,
    force: bool = False,
) -> Merged:
    r"""Merge checkpoints: $\theta_1 + \sum_\ell a_\ell P_\ell \Delta$ with the coefficients that `merge_plan` finds, as one file.

    Of more than two a soup is made, as `soup_plan` says. Where `align` knows the network, the second model's units are also put in the order of
    the first one's, and where that makes the uniform average better, that pair is planned, too. Nothing is written where no average beats the
    better checkpoint on held-out data.
    Float16 and bfloat16 are computed in float32, and written, and judged, in the first checkpoint's own types.

    Args:
        first: a checkpoint: `.safetensors`, an index of shards, `.pt` under `weights_only`, or a Hugging Face folder.
        second: another one of the same architecture; what of it does not match stays the first's.
        others: more of them.
        model: a network, or its name: `package.module:function(width=3)`, `resnet18`, a Hugging Face folder; not needed where `first` is one.
        data: a pair of tensors (x, y), or a name: a folder of images, a data set of torchvision, `text:PATH`, a file of x and y, a loader.
        output: `*.safetensors`; its header and a model card beside it say what was measured. None only plans.
        partition: what has a coefficient: `layers`, `blocks`, `fine`, or a regular expression.
        examples: how many at most; one half is fitted on, the other judged on.
        evaluations: of the gradient, from each start.
        loss: as `LayerCube` takes it; chosen by the targets by default.
        anyway: write the best average even where it is worse than the better checkpoint.
        force: write over files that are there.

    Returns:
        The plan, the file and its loss.

    Raises:
        LmcError: whatever does not go together or cannot be written, before anything is computed.

    Example:
        >>> import tempfile
        >>> net, folder = nn.Linear(1, 1, bias=False), Path(tempfile.mkdtemp())
        >>> for name, weight in (("a", -1.0), ("b", 3.0)):
        ...     torch.save({"weight": torch.tensor([[weight]])}, folder / f"{name}.pt")
        >>> data = torch.ones(4, 1), torch.zeros(4, 1)  # the loss is the weight's square
        >>> merged = merge(folder / "a.pt", folder / "b.pt", model=net, data=data, output=folder / "c.safetensors")
        >>> merged.plan.averages, round(merged.loss, 6), merged.path.name
        (True, 0.0, 'c.safetensors')
    """
    path = None if output is None else Path(output)
    if path is not None:
        check_output(path, force)
    opened = open_checkpoints((first, second, *others), model, data, partition, examples, loss)
    return merge_opened(opened, path, evaluations, anyway)


def merge_opened(opened: Opened, path: Path | None = None, evaluations: int = 20, anyway: bool = False) -> Merged:
    """Plan, judge and write a merge of checkpoints that are open; see `merge`."""
    plan = _plan(opened, evaluations)
    candidate, state, loss = _judged(opened, plan, anyway) if path is not None else (None, {}, float("nan"))
    facts = _facts(opened, plan, candidate, loss)
    if candidate is None:
        return Merged(plan, None, float(plan.best.loss), facts)
    write_merged(path, state, opened.ends[0].matched.one, facts)
    write_card(path, facts)
    _write_recipe(path, opened, plan, candidate)
    return Merged(plan, path, loss, facts)


def _plan(opened: Opened, evaluations: int) -> MergePlan | SoupPlan:
    if len(opened.ends) == 1:
        cube = opened.cube()
        plans = [merge_plan(one, evaluations=evaluations) for one in (cube, _aligned(cube)) if one is not None]
        best = min(plans, key=lambda plan: plan.best.loss)  # of equals the first, which is not aligned
        return replace(best, aligned=best is not plans[0])
    one = opened.ends[0]
    t1, *rest = (_loaded(state, one.dtype) for state in (one.states[0], *(ends.states[1] for ends in opened.ends)))
    axes = {axis.name: axis for ends in opened.ends for axis in ends.axes}  # what moves in some pair
    still = [layer for ends in opened.ends for layer in ends.still]
    cube = LayerCube(one.model, t1, rest[0], opened.data, opened.loss)
    return soup_plan(cube, [t1, *rest], covering(tuple(axes.values()), still), evaluations)


def _aligned(cube: Cube) -> LayerCube | None:
    """The cube to the second model with its units in the order of the first one's; None where that is the same, cannot be said of this
    network, or makes the uniform average no better.
    """
    if not isinstance(cube, LayerCube):
        return None
    try:
        t2 = align(cube.model, cube.ends.t1, cube.ends.t2)
    except LmcError:
        return None
    if all(t2[key] is value for key, value in cube.ends.t2.items()):
        return None
    other = cube.between(cube.ends.t1, t2)
    points = torch.tensor([[0.5], [1.0]], dtype=torch.float64).expand(2, len(cube.layers))
    (before, second), (after, same) = cube(points).loss, other(points).loss
    return (
        other if after < before and torch.isclose(same, second, rtol=1e-3) else None
    )  # the same function, seen on the data


def _loaded(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}


def _judged(
    opened: Opened, plan: MergePlan | SoupPlan, anyway: bool
) -> tuple[tuple[str, str] | None, Mapping[str, Tensor], float]:
    """The best candidate that is no worse than the better checkpoint as it will be written, its tensors and its loss.

    Rounding to half precision may cost the best candidate its lead.
    """
    better = float(plan.better_end.loss)
    singles = {name for name, weights in _weights(plan).items() if _is_single(weights)}
    for row in plan.candidates.itertuples():
        if row.candidate in singles or not (row.loss < better or anyway):
            continue
        state = _state(opened, plan, row.candidate, row.norm_stats)
        loss = measured(plan.judge, state).loss.item()
        if loss <= better or anyway:
            return (row.candidate, row.norm_stats), state, loss
    return None, {}, float("nan")


def _is_single(weights: list[list[float]]) -> bool:
    """Whether a candidate is one of the checkpoints."""
    return any(all(share == 1 for share in row) for row in weights)


def _state(opened: Opened, plan: MergePlan | SoupPlan, candidate: str, norm_stats: str) -> Mapping[str, Tensor]:
    """The state dict of a candidate in the types in which it will be written."""
    if isinstance(plan, MergePlan) and isinstance(plan.fit, StreamedCube):
        return Mixture(plan.fit, torch.tensor(plan.coefficients[candidate], dtype=torch.float64))
    return Rounded(plan.state(candidate, norm_stats), opened.ends[0].matched.one)


def _weights(plan: MergePlan | SoupPlan) -> dict[str, list[list[float]]]:
    """The share of every checkpoint in every layer, by candidate: K rows of L."""
    if isinstance(plan, SoupPlan):
        return {name: weights.tolist() for name, weights in plan.weights.items()}
    return {name: [[1 - a for a in point], list(point)] for name, point in plan.coefficients.items()}


def _facts(opened: Opened, plan: MergePlan | SoupPlan, written: tuple | None, loss: float) -> dict[str, object]:
    """All that is known of a merge, in plain values; paths by their names only."""
    one = opened.ends[0]
    candidate, norm_stats = written or (plan.chosen, plan.norm_stats)
    weights = dict(zip(plan.layers, map(list, zip(*_weights(plan)[candidate], strict=True)), strict=True))
    digits = lambda value: None if value != value else value  # noqa: E731 - JSON has no NaN
    rows = [{key: digits(value) for key, value in row.items()} for row in plan.candidates.to_dict("records")]
    return {
        "said": str(plan),
        "average": plan.averages,
        "model": opened.model_name,
        "data": opened.data_name,
        "partition": opened.partition,
        "candidate": candidate,
        "norm_stats": norm_stats,
        "weights": weights,
        "loss": digits(loss if written else float(plan.best.loss)),
        "candidates": rows,
        "fitted": len(plan.fit.data[1]),
        "held_out": len(plan.judge.data[1]),
        "aligned": getattr(plan, "aligned", False),
        "left_out": list(getattr(plan, "left_out", ())),
        "identical": list(one.identical),
        "kept": {key: said for ends in opened.ends for key, said in ends.kept.items()},
        "inputs": [
            {"name": c.path.name, "sha256": c.digest} for c in (one.first, *(ends.second for ends in opened.ends))
        ],
        "versions": {**packages()},
        "date": today(),
    }


def _write_recipe(path: Path, opened: Opened, plan: MergePlan | SoupPlan, candidate: tuple) -> None:
    """The plan in mergekit's YAML, where it knows the architecture, both checkpoints are folders, and no units were moved."""
    one = opened.ends[0]
    folders = [checkpoint.path.absolute() for checkpoint in (one.first, one.second)]
    if (
        not isinstance(plan, MergePlan)
        or plan.aligned  # of which mergekit knows nothing
        or architecture(one.model) not in MERGEKIT
        or not all(f.is_dir() for f in folders)
    ):
        return
    like, alphas = one.matched.one, dict(zip(plan.layers, plan.coefficients[candidate[0]], strict=True))
    tensors = {like.sources[key]: alphas[axis.name] for axis in one.axes for key in axis.parameters}
    write_recipe(path, folders, tensors, type_name(like.types))


def _is_folder(name: object) -> bool:
    return isinstance(name, str | Path) and Path(name).is_dir()
