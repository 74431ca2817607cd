"""Training in processes side by side, one thread each: for networks that lock-step does not speed up."""

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING

import torch

from lmclib.errors import LmcError
from lmclib.processes import ChildProcesses
from lmclib.runs.family import Family
from lmclib.runs.joint import train_together
from lmclib.runs.plan import Plan
from lmclib.runs.spec import ForkSpec
from lmclib.store.store import Store
from lmclib.store.writer import BackgroundWriter

if TYPE_CHECKING:
    from distributed import Client, Future

POLL = 0.2  # seconds between two looks whether Dask still works
Part = tuple[int, int] | None  # a child by fork step and number, or the parent


def train_in_workers(plans: Sequence[Plan], workers: int, on_step: Callable[[int], None]) -> None:
    """Train each run in a process of its own, of one thread, as many at once as there are workers: parents first, then children.

    For networks that do not fit the lock-step and for images too large for it.

    Raises:
        LmcError: what went wrong in one of them, or Dask was killed.
    """
    from distributed import CancelledError, Client, KilledWorker

    with ChildProcesses() as processes, tempfile.TemporaryDirectory(prefix="lmclib-workers-") as folder:
        found = Path(folder) / "scheduler.json"
        helpers = _start_dask(processes, found, workers)
        try:
            while not found.exists():  # for which a client would wait without end
                _check(helpers)
                time.sleep(POLL)
            with Client(scheduler_file=str(found)) as client:
                parents = {(plan.family, None): plan.missing_steps for plan in plans}
                children = {(plan.family, part): plan.steps_of(*part) for plan in plans for part in plan.missing}
                for parts in (parents, children):
                    jobs = {_submitted(client, *part): steps for part, steps in parts.items()}
                    for job in _finished(jobs, helpers):
                        for warning in job.result():  # raises what was raised there
                            warnings.warn(warning, stacklevel=2)
                        on_step(jobs[job] if parts is children else 0)
        except (KilledWorker, CancelledError):
            raise LmcError(
                f"workers={workers}: one was killed, as where memory is short; what was stored is kept; try fewer"
            ) from None


def _start_dask(processes: ChildProcesses, found: Path, workers: int) -> list[Popen]:
    """Start Dask's scheduler and workers, which meet where `found` says."""
    dask = [sys.executable, "-m", "dask"]
    environment = {**os.environ, "DASK_LOGGING__DISTRIBUTED": "critical"}  # what goes wrong is raised here
    meeting = ["--scheduler-file", str(found), "--host", "127.0.0.1", "--no-dashboard"]
    size = ["--nworkers", str(workers), "--nthreads", "1", "--local-directory", str(found.parent)]
    commands = [*dask, "scheduler", *meeting, "--port", "0"], [*dask, "worker", *meeting, *size]
    return [processes.start(command, env=environment) for command in commands]


def _submitted(client: "Client", family: Family, part: Part) -> "Future":
    store = family.store
    return client.submit(train_part, family.spec, str(store.root), str(store.results.root), part, pure=False)


def _finished(jobs: Iterable["Future"], helpers: Sequence[Popen]) -> Iterator["Future"]:
    """The jobs, each when it is done; Dask alone would wait without end where its processes have ended."""
    from distributed import wait

    left = set(jobs)
    while left:
        with suppress(TimeoutError):
            done, left = wait(left, timeout=POLL, return_when="FIRST_COMPLETED")
            yield from done
        _check(helpers)


def _check(helpers: Sequence[Popen]) -> None:
    if any(helper.poll() is not None for helper in helpers):
        raise LmcError("workers: Dask ended before they had done their work; what was stored is kept; try workers=1")


def train_part(spec: ForkSpec, root: str, results: str, part: Part) -> list[str]:
    """Train the parent of a family, or one child, in a process of one thread; the warnings that there were."""
    torch.set_num_threads(1)
    store = Store(root, results)
    with warnings.catch_warnings(record=True) as caught, BackgroundWriter(store) as writer:
        warnings.simplefilter("always")
        plan = Plan(Family(spec, store), writer)
        plan.missing &= set() if part is None else {part}
        train_together([plan], lambda steps: None)
    return [str(warning.message) for warning in caught]
