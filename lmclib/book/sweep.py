"""Sweeps: what all points of one need, what of it is remembered, and one tidy table of what they give."""

import io
import warnings
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from lmclib.book.campaign import left_to_train
from lmclib.book.chapters import find_chapters
from lmclib.book.estimates import Estimate, on_stand_ins
from lmclib.book.execute import Execution, executed
from lmclib.book.ledger import part_table
from lmclib.book.measuring import measure, measured_so_far
from lmclib.book.sweep_spec import ChapterSweep, ForkSweep, Point, Sweep, fork_spec, sweep_points
from lmclib.book.work_ahead import work_ahead
from lmclib.errors import LmcError
from lmclib.files import written
from lmclib.runs.family import Family
from lmclib.runs.measuring import Measurement, measurements, over_pairs
from lmclib.runs.pairs import Pair, sibling_pairs
from lmclib.runs.plan import Plan
from lmclib.runs.sweep import training_groups
from lmclib.runs.workers import current_workers
from lmclib.store.address import address
from lmclib.store.dry_run import NotRun, dry_run
from lmclib.store.store import Store

FORMATS = (".csv", ".parquet")


@dataclass(frozen=True)
class Outlook:
    """What a sweep would do.

    Attributes:
        points: how many there are.
        remembered_points: those whose tables are all there.
        runs: networks, parents among them, each counted once however many points want it.
        remembered_runs: those that are wholly stored.
        estimate: of what is missing; None where nothing is, or it is no training of networks.
        hours: of one process, that training takes by what it took so far; None where nothing tells.
    """

    points: int
    remembered_points: int
    runs: int
    remembered_runs: int
    estimate: Estimate | None
    hours: float | None

    def __str__(self) -> str:
        points = f"{self.points} points, {self.remembered_points} of them measured already"
        runs = f"{self.runs} runs, {self.remembered_runs} of them remembered"
        if self.remembered_points == self.points:
            return f"{points}; {runs}"
        if self.estimate is None:
            return f"{points}\nno networks to train on images, so there is no estimate"
        hours = (
            "" if self.hours is None else f"\nby what training took so far: about {self.hours:.2g} hours of one process"
        )
        return f"{points}\n{runs}\nmissing: {self.estimate}{hours}"


class Swept:
    """A sweep in a store.

    Args:
        sweep: what to do, from `read_sweep`.
        store: the folder of runs and tables.
        base: where relative paths among the parameters are meant from.

    Raises:
        LmcError: a line for each mistake in the spec, with its path.
    """

    def __init__(self, sweep: Sweep, store: Path, base: Path):
        self.sweep, self.store = sweep, store
        self.points = sweep_points(sweep, base)
        self.kind = _Forks(sweep, store, self.points) if isinstance(sweep, ForkSweep) else _Chapter(sweep, store)

    def outlook(self, progress: bool = True) -> Outlook:
        """What there is to do; nothing is trained or stored.

        Raises:
            LmcError: an option of a measure that it does not take.
        """
        known = tqdm(self.points, desc="look up", unit="point", disable=not progress, delay=1, leave=False)
        remembered, estimate, hours = sum(self.kind.is_remembered(point) for point in known), None, None
        families = list(self.kind.families)
        if remembered < len(self.points):
            planned = on_stand_ins(lambda: self.kind.on_stand_ins(self.points), "estimate", progress)
            estimate = planned.estimate if families else None  # something else than networks on images
        runs = _runs(families)
        if sum(runs.values()) < len(runs):
            hours = left_to_train(families)[1]
        return Outlook(len(self.points), remembered, len(runs), sum(runs.values()), estimate, hours)

    def run(self, progress: bool = True) -> pd.DataFrame:
        """Train and measure what is missing, with the current workers if there are any: training as one graph over all points.

        Returns:
            The rows of all points, with a column for every parameter that is swept. A parameter whose name is a column of the
            table already, and means something else there, is called `swept_NAME`.

        Raises:
            LmcError: points that failed, a line each, after all others are done.
        """
        self.kind.prepare(self.points, progress)
        tables, failed = [], []
        with tqdm(total=len(self.points), desc="sweep", unit="point", disable=not progress) as bar:
            for point in self.points:
                try:
                    tables.append((point, self.kind.table(point)))
                except LmcError as error:
                    failed.append(f"{point}: {error}")
                bar.update()
        if failed:
            raise LmcError(
                "\n".join([*failed, f"{len(failed)} of {len(self.points)} points failed; the others are stored"])
            )
        return _joined(tables)

    def check_notebooks(self) -> None:
        """Whether there is a notebook to execute.

        Raises:
            LmcError: the sweep is not one of a chapter.
        """
        if not isinstance(self.sweep, ChapterSweep):
            raise LmcError("notebooks: are for sweeps of a chapter; this one has a fork")

    def notebooks(self, folder: Path, progress: bool = True) -> list[Path]:
        """The chapter's notebook, executed by papermill once a point, several at once; those that are there already are kept.

        Raises:
            LmcError: the sweep is not one of a chapter, or notebooks failed, a line each, after all others are done.
        """
        self.check_notebooks()
        (chapter,) = [one for one in find_chapters({}, folder) if one.name == self.sweep.chapter]
        todo = []
        for i, point in enumerate(self.points):
            given = {name: str(value) for name, value in {**point.given, "store": str(self.store)}.items()}
            key = address({"chapter": chapter.key, "given": given})
            todo.append(Execution(chapter.source, folder / f"{chapter.name}-{i + 1:03d}.{key}.ipynb", given))
        missing = [one for one in todo if not one.target.exists()]
        failed = [str(error) for _, error in executed(missing, "notebooks", progress) if error is not None]
        if failed:
            raise LmcError("\n".join(failed))
        return [one.target for one in todo]


class _Chapter:
    """The points of a chapter."""

    def __init__(self, sweep: ChapterSweep, store: Path):
        self.sweep, self.store = sweep, store
        self.families: list[Family] = []  # that points wanted when they were looked up
        self.failed: dict[int, Exception] = {}  # what went wrong in a worker, by the point

    def _given(self, point: Point) -> dict[str, object]:
        return {**point.given, "store": str(self.store)}

    def is_remembered(self, point: Point) -> bool:
        return self._looked_up(point) is not None

    def on_stand_ins(self, points: Sequence[Point]) -> None:
        for point in points:
            measured_so_far(self.sweep.chapter, self._given(point))

    def prepare(self, points: Sequence[Point], progress: bool) -> None:
        """With workers: train and measure what points lack as one graph, then have each put together by a worker."""
        if (workers := current_workers()) is None:
            return
        missing = [point for point in points if not self.is_remembered(point)]
        if len(missing) < 2:
            return
        work_ahead(self.sweep.chapter, [self._given(point) for point in missing], self.store, workers, progress)
        jobs = {
            workers.submit("point", _measure_point, self.sweep.chapter, self._given(point)): point for point in missing
        }
        with tqdm(total=len(jobs), desc="measure", unit="point", disable=not progress) as bar:
            for point, error in workers.outcomes(jobs):
                bar.update()
                if error is not None:
                    self.failed[id(point)] = error

    def table(self, point: Point) -> pd.DataFrame:
        if (error := self.failed.get(id(point))) is not None:
            raise error
        found = self._looked_up(point)
        if found is None:
            measure(self.sweep.chapter, self._given(point))
            found = self._looked_up(point)
        namespace, judged = found
        if self.sweep.table is None:
            return part_table(judged)
        table = namespace.get(self.sweep.table)
        if not isinstance(table, pd.DataFrame):
            known = sorted(name for name, value in namespace.items() if isinstance(value, pd.DataFrame))
            raise LmcError(f"table={self.sweep.table!r}: must be one of {', '.join(known)}")
        return table

    def _looked_up(self, point: Point) -> tuple[dict[str, object], list[dict]] | None:
        """What the cells leave behind and judge, where today's code has measured all of it."""
        try:
            with dry_run() as found:
                namespace = measure(self.sweep.chapter, self._given(point))
        except NotRun:
            return None
        self.families += found.families
        return None if found.changed else (namespace, found.judged)


class _Forks:
    """The points of forking experiments."""

    def __init__(self, sweep: ForkSweep, store: Path, points: Sequence[Point]):
        self.how, self.store = sweep.measure, Store(store)
        self.specs = {id(point): fork_spec(point.given) for point in points}
        self.by_point = {key: Family(spec, self.store) for key, spec in self.specs.items()}

    @property
    def families(self) -> Iterable[Family]:
        """Of all points."""
        return self.by_point.values()

    def is_remembered(self, point: Point) -> bool:
        return all(job.is_remembered for job in self._jobs([point]))

    def on_stand_ins(self, points: Sequence[Point]) -> None:
        families = [Family(self.specs[id(point)], self.store) for point in points]
        self._measured([pair for family in families for pair in self._pairs(family)])

    def prepare(self, points: Sequence[Point], progress: bool) -> None:
        """Train and measure all that is missing, whatever point it belongs to: with workers, as one graph."""
        for group in training_groups(self.families):
            group.progress = progress
        missing = [job for job in self._jobs(points) if not job.is_remembered]
        if missing:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what diverged is said point by point
                try:
                    self._measured([job.pair for job in missing], progress)
                except LmcError:
                    if not any(family.diverged() for family in self.families):
                        raise

    def table(self, point: Point) -> pd.DataFrame:
        return self._measured(self._pairs(self.by_point[id(point)]))

    def _measured(self, pairs: Sequence[Pair], progress: bool = False) -> pd.DataFrame:
        how = self.how
        return over_pairs(pairs, how.function, how.split, how.norm_stats, progress, how.examples, **how.options)

    def _pairs(self, family: Family) -> list[Pair]:
        return sibling_pairs([family], epochs=self.how.epochs)

    def _jobs(self, points: Sequence[Point]) -> list[Measurement]:
        """What is measured, each pair once however many points have it."""
        pairs = {(*pair.names, pair.epoch): pair for point in points for pair in self._pairs(self.by_point[id(point)])}
        how = self.how
        return measurements(pairs.values(), how.function, how.split, how.norm_stats, how.examples, [how.options])


def _measure_point(chapter: str, given: dict[str, object]) -> None:
    """Measure a point in a worker, whose terminal is another's."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        measure(chapter, given)


def _runs(families: Iterable[Family]) -> dict[str, bool]:
    """Every network that is wanted, by its address, and whether it is wholly stored."""
    found: dict[str, bool] = {}
    for family in families:
        plan = Plan(family)
        children = {(step, k) for step in family.fork_steps for k in range(family.spec.siblings)}
        for part in children:
            at = family.child_address(*part)
            found[at] = found.get(at, True) and part not in plan.missing
        stored = {int(name) for name in family.store.states(family.parent_address) if name.isdigit()}
        at = family.parent_address
        found[at] = found.get(at, True) and set(family.fork_steps) <= stored
    return found


def _joined(tables: Sequence[tuple[Point, pd.DataFrame]]) -> pd.DataFrame:
    """The rows of all points, each with the values that were swept."""
    names = list(tables[0][0].swept)
    called = {
        name: name if all(_agrees(table, name, p.swept[name]) for p, table in tables) else f"swept_{name}"
        for name in names
    }
    parts = []
    for point, table in tables:
        own = {called[name]: _cell(value) for name, value in point.swept.items()}
        parts.append(
            table.drop(columns=[c for c in own if c in table]).assign(**own)[
                [*own, *(c for c in table if c not in own)]
            ]
        )
    return pd.concat(parts, ignore_index=True)


def _agrees(table: pd.DataFrame, name: str, value: object) -> bool:
    """Whether a table has no column of this name, or one that says the same."""
    return name not in table or bool((table[name] == _cell(value)).all())


def _cell(value: object) -> object:
    """A value as a cell of a table: a list as text."""
    return str(value) if isinstance(value, list) else value


def check_output(path: Path) -> Path:
    """The path of a table that is to be written.

    Raises:
        LmcError: another format, or no such folder.
    """
    if path.suffix not in FORMATS:
        raise LmcError(f"output={str(path)!r}: must end with {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise LmcError(f"output={str(path)!r}: there is no folder {str(path.parent)!r}; must be in one that is there")
    return path


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table in one step, as CSV or Parquet by its name."""
    with written(path.parent, path.name) as part:
        if path.suffix == ".csv":
            table.to_csv(part, index=False)
        else:
            table.to_parquet(part, index=False)
