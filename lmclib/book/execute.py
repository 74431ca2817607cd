"""Running notebooks through papermill, several kernels at once."""

import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import joblib
from tqdm import tqdm

from lmclib.book.chapters import Chapter, wave
from lmclib.book.kernels import ReadyKernels
from lmclib.errors import LmcError
from lmclib.processes import ChildProcesses
from lmclib.root import ROOT
from lmclib.runs.workers import Workers, current, current_workers, stop_if_unwanted

TRIES = 2  # a kernel can die before it says anything: two kernels sometimes draw the same port
BAR = "{desc}{percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"  # notebooks take minutes or seconds, so their number says little
# of a kernel: figures that need no kernel afterwards, one thread a process, and the same order of sets in each
OWN = {"LMC_STATIC": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
REPORTS = ROOT / "reports"  # where a chapter that failed is left


@dataclass(frozen=True, eq=False)
class Execution:
    """A notebook to execute: where it is, where its executed copy goes, what papermill puts in, about how many minutes it takes, and
    whose kernels are used, from `ReadyKernels`.
    """

    source: Path
    target: Path
    parameters: Mapping[str, str]
    minutes: float = 1
    kernels: Mapping[str, str] = field(default_factory=dict)


def execute_all(chapters: Sequence[Chapter], parameters: Mapping[str, str]) -> None:
    """Run the chapters whose executed copies are not there, as many at once as there are cores.

    Raises:
        LmcError: a chapter failed.
    """
    failures = []
    for left in {part for chapter in chapters for part in chapter.folder.glob("*.part.ipynb")}:
        left.unlink()  # by a build that was killed: nobody else builds here now
    missing = [chapter for chapter in chapters if not chapter.executed.exists()]
    if not missing:
        return
    with (
        ReadyKernels([chapter.source for chapter in missing], OWN) as kernels,
        _workers(len(missing)),  # for all waves: to start them takes seconds
    ):
        for now in sorted({wave(chapter.name) for chapter in missing}):
            together = [chapter for chapter in missing if wave(chapter.name) == now]
            if failures:
                break
            todo = {Execution(c.source, c.executed, parameters, c.minutes, kernels.environment): c for c in together}
            for done, error in executed(todo, "run chapters"):
                if error is not None:
                    failures.append(str(error))
                    continue
                for old in todo[done].folder.glob(f"{todo[done].name}.*.ipynb"):
                    if old != done.target:
                        old.unlink()
    if failures:
        raise LmcError("\n".join(failures))


def executed(
    todo: Collection[Execution], what: str, progress: bool = True
) -> Iterator[tuple[Execution, Exception | None]]:
    """Run notebooks, each by a worker; each as it ends, with what went wrong in it.

    The current workers are used, or where there are none as many as there are cores.

    Args:
        todo: what to execute.
        what: it does, as the progress bar says.
        progress: whether to show one.

    Raises:
        LmcError: the workers are gone.
    """
    if not todo:
        return
    with _workers(len(todo)) as workers, _Progress(what, todo, workers.n, progress) as bar:
        # by falling priority, as Dask takes what comes within a tenth of a second in any order
        jobs = {workers.submit("notebook", execute, one, REPORTS, priority=-i): one for i, one in enumerate(todo)}
        for one, error in workers.outcomes(jobs, bar.tick):
            bar.ended(one)
            yield one, error


def _workers(most: int) -> AbstractContextManager[Workers]:
    """The current workers, or where there are none as many as there are cores, but no more than there is work for."""
    there = current_workers()
    return nullcontext(there) if there else current(Workers(min(joblib.cpu_count(), most)))


class _Progress:
    """A bar that counts minutes: of the notebooks that have ended, and of those that run, in the order in which they begin.

    A notebook that runs counts as long as it has, but not as ended before it has.

    Args:
        what: is done.
        todo: in what order.
        width: how many run at once.
        shown: whether there is a bar at all.
    """

    def __init__(self, what: str, todo: Collection[Execution], width: int, shown: bool):
        self.what, self.todo, self.width = what, list(todo), width
        self.n, self.minutes = len(self.todo), 0.0
        self.began: dict[Execution, float] = {}
        every = 1 if sys.stderr.isatty() else 60  # seconds: a file need not have all
        total = sum(one.minutes for one in self.todo)
        self.bar = tqdm(total=total, bar_format=BAR, smoothing=0, mininterval=every, disable=not shown)

    def __enter__(self) -> "_Progress":
        self.bar.set_description(f"{self.what}, 0 of {self.n}")
        self.tick()
        return self

    def __exit__(self, *why: object) -> None:
        self.bar.close()

    def tick(self) -> None:
        """Let the bar go on with the clock."""
        now = time.monotonic()
        running = [self.began.setdefault(one, now) for one in self.todo[: self.width]]
        parts = zip(self.todo, running, strict=False)
        self.bar.update(self.minutes + sum(min((now - at) / 60, 0.95 * one.minutes) for one, at in parts) - self.bar.n)

    def ended(self, one: Execution) -> None:
        """Count a notebook as ended."""
        self.todo.remove(one)
        self.minutes += one.minutes
        self.bar.set_description(f"{self.what}, {self.n - len(self.todo)} of {self.n}", refresh=False)
        self.tick()
        self.bar.refresh()


def execute(one: Execution, reports: Path) -> None:
    """Run one notebook through papermill in a kernel of its own, from a worker.

    Args:
        one: the notebook, and where its executed copy goes.
        reports: where that is moved if it failed.

    Raises:
        LmcError: the notebook failed, or nobody waits for it any more.
    """
    target = one.target
    target.parent.mkdir(parents=True, exist_ok=True)
    working = target.with_suffix(".part.ipynb")
    options = [item for name, value in one.parameters.items() for item in ("-p", name, value)]
    # a cell has no time limit: on a slow or busy machine training takes many times as long as here, and a kernel that dies is noticed
    command = [sys.executable, "-m", "papermill", "--no-progress-bar"]
    environment = {**os.environ, **OWN, **one.kernels}
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)  # which Dask sets for its workers
    with ChildProcesses() as processes:
        for _ in range(TRIES):
            done = processes.run(
                [*command, str(one.source), str(working), *options],
                env=environment,
                cwd=ROOT,
                capture_output=True,
                text=True,
                watch=stop_if_unwanted,
            )
            if "Kernel died before replying" not in done.stderr:
                break
    if done.returncode:
        report = reports / f"{target.name.split('.')[0]}.ipynb"
        reports.mkdir(exist_ok=True)
        if working.exists():
            shutil.move(working, report)
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LmcError(f"{one.source.stem}: {said} (the notebook as far as it came: {report})")
    os.replace(working, target)
