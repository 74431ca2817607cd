"""Running notebooks through papermill, several kernels at once."""

import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import joblib
from tqdm import tqdm

from lmclib.book.chapters import LAST, Chapter
from lmclib.errors import LmcError
from lmclib.processes import ChildProcesses
from lmclib.root import ROOT

TIMEOUT = 1800  # seconds a cell may take
TRIES = 2  # a kernel can die before it says anything: two kernels sometimes draw the same port
REPORTS = ROOT / "reports"  # where a chapter that failed is left


@dataclass(frozen=True, eq=False)
class Execution:
    """A notebook to execute: where it is, where its executed copy goes, and what papermill puts in."""

    source: Path
    target: Path
    parameters: Mapping[str, str]


def execute_all(chapters: Sequence[Chapter], parameters: Mapping[str, str]) -> None:
    """Run the chapters whose executed copies are not there, as many at once as there are cores.

    Raises:
        LmcError: a chapter failed.
    """
    failures = []
    for left in {part for chapter in chapters for part in chapter.folder.glob("*.part.ipynb")}:
        left.unlink()  # by a build that was killed: nobody else builds here now
    for wave in ([c for c in chapters if c.name not in LAST], [c for c in chapters if c.name in LAST]):
        todo = {Execution(c.source, c.executed, parameters): c for c in wave if not c.executed.exists()}
        if not todo or failures:
            continue
        for done, error in executed(todo, "run chapters", "chapter"):
            if error is not None:
                failures.append(str(error))
                continue
            for old in todo[done].folder.glob(f"{todo[done].name}.*.ipynb"):
                if old != done.target:
                    old.unlink()
    if failures:
        raise LmcError("\n".join(failures))


def executed(
    todo: Collection[Execution], what: str, unit: str, progress: bool = True
) -> Iterator[tuple[Execution, BaseException | None]]:
    """Run notebooks, as many at once as there are cores; each as it ends, with what went wrong in it.

    A kernel is a process of its own, so that a thread is all that waits for it. What it trains goes the way of all training.

    Args:
        todo: what to execute.
        what: it does, as the progress bar says.
        unit: of the bar.
        progress: whether to show one.
    """
    with (
        ThreadPoolExecutor(joblib.cpu_count()) as pool,
        ChildProcesses() as processes,  # ended before the pool waits for them, where something is raised
        tqdm(total=len(todo), desc=what, unit=unit, disable=not progress) as bar,
    ):
        jobs = {pool.submit(execute, one.source, one.target, one.parameters, processes): one for one in todo}
        for job in as_completed(jobs):
            bar.update()
            yield jobs[job], job.exception()


def execute(source: Path, target: Path, parameters: Mapping[str, str], processes: ChildProcesses) -> float:
    """Run one notebook through papermill in a kernel of its own; returns the seconds it took.

    Args:
        source: the notebook.
        target: where its executed copy goes.
        parameters: what papermill puts in.
        processes: among which it runs.

    Raises:
        LmcError: the notebook failed; the executed copy is moved to `reports/`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    working = target.with_suffix(".part.ipynb")
    options = [item for name, value in parameters.items() for item in ("-p", name, value)]
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--execution-timeout", str(TIMEOUT)]
    environment = {**os.environ, "LMC_STATIC": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    for _ in range(TRIES):
        start = time.monotonic()
        done = processes.run(
            [*command, str(source), str(working), *options],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if "Kernel died before replying" not in done.stderr:
            break
    if done.returncode:
        report = REPORTS / f"{target.name.split('.')[0]}.ipynb"
        REPORTS.mkdir(exist_ok=True)
        if working.exists():
            shutil.move(working, report)
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LmcError(f"{source.stem}: {said} (the notebook as far as it came: {report})")
    os.replace(working, target)
    return time.monotonic() - start
