"""Training in processes side by side, one thread each: for networks that lock-step does not speed up."""

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
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
    from distributed import Client

Part = tuple[int, int] | None  # a child by fork step and number, or the parent


def train_in_workers(plans: Sequence[Plan], workers: int, on_step: Callable[[int], None]) -> None:
    """Train each run in a process of its own, of one thread, as many at once as there are workers: parents first, then children.

    For networks that do not fit the lock-step and for images too large for it.

    Raises:
        LmcError: what went wrong in one of them, or one that was killed again and again.
    """
    from distributed import KilledWorker, as_completed

    with _cluster(workers) as client:
        parents = {(plan.family, None): plan.missing_steps for plan in plans}
        children = {(plan.family, part): plan.steps_of(*part) for plan in plans for part in plan.missing}
        for parts in (parents, children):
            jobs = {}
            for (family, part), steps in parts.items():
                store = family.store
                job = client.submit(train_part, family.spec, str(store.root), str(store.results.root), part, pure=False)
                jobs[job] = 0 if part is None else steps
            for job in as_completed(jobs):
                try:
                    said = job.result()  # raises what was raised there
                except KilledWorker:
                    raise LmcError(
                        f"workers={workers}: one was killed again and again, as where memory is short; "
                        "what was trained is kept; try fewer"
                    ) from None
                for warning in said:
                    warnings.warn(warning, stacklevel=2)
                on_step(jobs[job])


@contextmanager
def _cluster(workers: int) -> Iterator["Client"]:
    """Dask's scheduler and workers, which end with this process whatever ends it."""
    from distributed import Client

    dask = [sys.executable, "-m", "dask"]
    environment = {**os.environ, "DASK_LOGGING__DISTRIBUTED": "critical"}  # what goes wrong is raised here
    with tempfile.TemporaryDirectory(prefix="lmclib-workers-") as folder, ChildProcesses() as processes:
        found = Path(folder) / "scheduler.json"
        meeting = ["--scheduler-file", str(found), "--host", "127.0.0.1", "--no-dashboard"]
        scheduler = processes.start([*dask, "scheduler", *meeting, "--port", "0"], env=environment)
        size = ["--nworkers", str(workers), "--nthreads", "1", "--local-directory", folder]
        processes.start([*dask, "worker", *meeting, *size], env=environment)
        while not found.exists():  # which a client would wait for without end
            if scheduler.poll() is not None:
                raise LmcError(f"workers={workers}: Dask's scheduler did not start, said above; workers=1 needs none")
            time.sleep(0.05)
        with Client(scheduler_file=str(found)) as client:
            yield client


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
