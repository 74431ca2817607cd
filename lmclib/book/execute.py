"""Running chapters through papermill, several kernels at once."""

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
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


def execute_all(chapters: Sequence[Chapter], parameters: Mapping[str, str]) -> None:
    """Run the chapters whose executed copies are not there, as many at once as there are cores.

    Raises:
        LmcError: a chapter failed.
    """
    failures = []
    for left in {part for chapter in chapters for part in chapter.folder.glob("*.part.ipynb")}:
        left.unlink()  # by a build that was killed: nobody else builds here now
    for wave in ([c for c in chapters if c.name not in LAST], [c for c in chapters if c.name in LAST]):
        todo = [chapter for chapter in wave if not chapter.executed.exists()]
        if not todo or failures:
            continue
        with (
            ThreadPoolExecutor(joblib.cpu_count()) as pool,
            ChildProcesses() as processes,  # ended before the pool waits for them, where something is raised
            tqdm(total=len(todo), desc="run chapters", unit="chapter") as bar,
        ):
            jobs = {pool.submit(execute, c.source, c.executed, parameters, processes): c for c in todo}
            for job in as_completed(jobs):
                bar.update()
                if error := job.exception():
                    failures.append(str(error))
                    continue
                for old in jobs[job].folder.glob(f"{jobs[job].name}.*.ipynb"):
                    if old != jobs[job].executed:
                        old.unlink()
    if failures:
        raise LmcError("\n".join(failures))


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
