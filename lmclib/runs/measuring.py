"""Measurements of many pairs: each computed once, remembered in the store, and put together in one table."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product

import pandas as pd
from torch import Tensor
from tqdm.auto import tqdm

from lmclib.device import one_thread
from lmclib.errors import LmcError
from lmclib.networks.partition import Partition
from lmclib.runs.family import Family
from lmclib.runs.group import task_graph
from lmclib.runs.pairs import LAST, Pair, cube_between
from lmclib.runs.spec import ForkSpec
from lmclib.runs.task_graph import TaskGraph
from lmclib.runs.workers import Workers, current_workers
from lmclib.store.dry_run import NotRun, current_dry_run
from lmclib.store.roots import Code
from lmclib.store.store import Store
from lmclib.store.tables import Question
from lmclib.training.loop import Diverged


def over_pairs(
    pairs: Iterable[Pair],
    measure: Callable[..., pd.DataFrame],
    split: str = "train",
    norm_stats: str = "interpolate",
    progress: bool = True,
    examples: int | None = None,
    each: Mapping[str, Sequence] | None = None,
    layers: Partition = "layers",
    **options: object,
) -> pd.DataFrame:
    """A measurement of every pair's cube, in one table; what the store has is not measured again.

    What is remembered is found by the networks, the options and the code of `measure` with all that it reaches, so an edited
    measure is measured anew, and two functions of one name do not share a table. Pairs of which a network diverged in training
    are left out, with a warning.

    Args:
        pairs: from `sibling_pairs` or `independent_pairs`.
        measure: `barrier_curve`, `layer_barriers`, …: a function of a cube that returns a table.
        split: `train` or `test`.
        norm_stats: `interpolate` or `recompute`.
        progress: whether to show a progress bar.
        examples: how many of the split's examples, evenly spaced; all by default.
        layers: what has an axis of its own in the cubes, as `LayerCube` takes it.
        each: one option and its values, which are measured and remembered one after the other: for what takes long together.
        **options: handed to `measure`; plain values only, as they are part of the table's address.

    Returns:
        The tables' rows with `relation`, `seed`, `fork_epoch`, `epoch` (the parent's clock), `child_epoch`, `pair`, `split`,
        `norm_stats`.

    Raises:
        LmcError: no pairs, or all of them diverged.
    """
    name, done, dead, missing = measure.__name__, [], [], None
    what = f"{name.replace('_', ' ')} ({split}, {norm_stats})"
    given = [{**options, option: value} for option, values in each.items() for value in values] if each else [options]
    jobs = measurements(pairs, measure, split, norm_stats, examples, given, layers=layers)
    if (dry := current_dry_run()) is not None:
        dry.measurements += jobs
    unit = "pair" if each is None else "measurement"
    with tqdm(total=len(jobs), desc=what, unit=unit, disable=not progress or dry is not None) as bar:
        if (workers := current_workers()) is not None and dry is None:
            _measure_side_by_side(jobs, workers, bar.update)
        for job in jobs:
            try:
                table = job.table()
            except Diverged as error:
                dead.append(str(error))
                warnings.warn(f"{name}: a pair is left out, as {error}", stacklevel=2)
                continue
            except NotRun as error:  # after all others were looked up
                missing = missing or error
                continue
            finally:
                bar.update(bar.n < bar.total)
            done.append((table, job.labels))
    if missing:
        raise missing
    if not done:
        raise LmcError(dead[0] if dead else "pairs: must hold at least one pair")
    return labelled(done)


def labelled(tables: Sequence[tuple[pd.DataFrame, Mapping[str, object]]]) -> pd.DataFrame:
    """Tables one below the other, each with its labels as further columns: added to all of them at once, as they are many and small.

    Example:
        >>> one, two = pd.DataFrame({"loss": [0.5, 0.7]}), pd.DataFrame({"loss": [0.1]})
        >>> labelled([(one, {"seed": 0}), (two, {"seed": 1})]).values.tolist()
        [[0.5, 0.0], [0.7, 0.0], [0.1, 1.0]]
    """
    rows = pd.concat([table for table, _ in tables], ignore_index=True)
    labels = pd.DataFrame([labels for _, labels in tables])
    times = [len(table) for table, _ in tables]
    return rows.assign(**{name: column.repeat(times).to_numpy() for name, column in labels.items()})


def measurements(
    pairs: Iterable[Pair],
    measure: Callable[..., pd.DataFrame],
    split: str = "train",
    norm_stats: str = "interpolate",
    examples: int | None = None,
    given: Sequence[Mapping[str, object]] = ({},),
    watch: Callable[[], None] | None = None,
    layers: Partition = "layers",
) -> list["Measurement"]:
    """One measurement for each pair and each choice of options, none of which is looked up or made yet.

    Args:
        pairs: as in `over_pairs`, like the next four.
        measure: a function of a cube that returns a table.
        split: `train` or `test`.
        norm_stats: `interpolate` or `recompute`.
        examples: how many of the split's examples.
        given: the choices of options for `measure`.
        watch: called again and again while something is measured; what it raises stops that.
        layers: as in `over_pairs`.
    """
    codes: dict[tuple[Family, Family], Code] = {}  # one for many pairs, as a fingerprint of code takes a while
    jobs = []
    for pair, own in product(pairs, given):
        if pair.families not in codes:
            codes[pair.families] = Code((measure, cube_between), tuple(family.code for family in pair.families))
        jobs.append(Measurement(pair, measure, split, norm_stats, examples, own, codes[pair.families], watch, layers))
    return jobs


@dataclass(frozen=True)
class Measurement:
    """One measurement of one pair, as `over_pairs` describes it; from `measurements`."""

    pair: Pair
    measure: Callable[..., pd.DataFrame]
    split: str
    norm_stats: str
    examples: int | None
    options: Mapping[str, object]
    code: Code
    watch: Callable[[], None] | None = None
    layers: Partition = "layers"

    @cached_property
    def question(self) -> Question:
        """What the store is asked."""
        about = {
            "children": self.pair.names,
            "epoch": self.pair.epoch,
            "split": self.split,
            "norm_stats": self.norm_stats,
            "examples": self.examples,
        }
        if self.layers != "layers":
            about["layers"] = self.layers if isinstance(self.layers, str) else dict(self.layers)
        networks = [family.summary for family in self.pair.families]
        return replace(Question.of(self.measure, self.options, about, networks=networks), code=self.code)

    @property
    def is_remembered(self) -> bool:
        """Whether the store has it, made by today's code."""
        return self.pair.families[0].store.find(self.question) is not None

    @property
    def labels(self) -> dict[str, object]:
        """The columns that tell its rows from those of others."""
        return {**self.pair.labels, "split": self.split, "norm_stats": self.norm_stats}

    @property
    def is_known_to_workers(self) -> bool:
        """Whether workers know its function, which a reader's own they do not."""
        return self.measure.__module__.startswith("lmclib.")

    def hand_to(self, graph: TaskGraph, ahead: bool = False) -> None:
        """Have a worker measure and remember it, once its networks are trained.

        Args:
            graph: of jobs for workers.
            ahead: whether somebody asks for it later, and is told then what goes wrong.
        """
        pair, store = self.pair, self.pair.families[0].store
        specs, where = tuple(family.spec for family in pair.families), (str(store.root), str(store.results.root))
        how = self.measure, self.split, self.norm_stats, self.examples, self.options, self.layers
        place = pair.fork_epoch, pair.epoch, pair.children
        graph.measure(pair, _measure_part, specs, where, place, how, Exception if ahead else Diverged)

    def table(self) -> pd.DataFrame:
        """The table, remembered or measured."""
        return self.pair.families[0].store.table(self.question, self._measured)

    def _measured(self) -> pd.DataFrame:
        cube = self.pair.cube(self.split, self.norm_stats, self.examples, self.layers, LAST)
        if self.watch is not None:
            cube.loss = _watched(cube.loss, self.watch)
        with one_thread():
            table = self.measure(cube, **self.options)
        table.attrs["passes"] = cube.passes  # over the data, that it took
        return table


def _watched(loss: Callable[..., Tensor], watch: Callable[[], None]) -> Callable[..., Tensor]:
    """A loss that lets somebody look in whenever it is asked: once a batch and point, so several times a second."""

    def watched(outputs: Tensor, y: Tensor) -> Tensor:
        watch()
        return loss(outputs, y)

    return watched


def _measure_side_by_side(jobs: Sequence[Measurement], workers: Workers, on_done: Callable[[], object]) -> None:
    """Have workers train, measure and remember what is missing. Functions of a reader's own are left to this process, which alone knows them."""
    missing = [job for job in jobs if job.is_known_to_workers and not job.is_remembered]
    groups = dict.fromkeys(family.group for job in missing for family in job.pair.families if family.group is not None)
    with task_graph(groups, workers, on_done) as graph:
        for job in missing:
            job.hand_to(graph)


def _measure_part(
    specs: tuple[ForkSpec, ForkSpec], where: tuple[str, str], place: tuple, how: tuple, passed_over: type[Exception]
) -> None:
    """Measure and remember in a worker; what is passed over, as a network that diverged, is said by whoever asks for the table."""
    measure, split, norm_stats, examples, options, layers = how
    pair = Pair(tuple(_family(spec, *where) for spec in specs), *place)
    with suppress(passed_over):
        for job in measurements([pair], measure, split, norm_stats, examples, [options], layers=layers):
            job.table()


@cache
def _family(spec: ForkSpec, root: str, results: str) -> Family:
    """One family a spec, so that its data are loaded once, and two siblings have the same."""
    return Family(spec, Store(root, results))
