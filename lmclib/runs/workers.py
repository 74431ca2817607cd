"""Processes side by side, one thread each, which train networks and measure what comes of them."""

import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from multiprocessing import get_all_start_methods
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING
from uuid import uuid4

import pandas as pd

from lmclib.device import default_device
from lmclib.errors import LmcError, first_line
from lmclib.processes import ChildProcesses
from lmclib.runs.job import Report, do, packed

if TYPE_CHECKING:
    from distributed import Future

POLL = 0.05  # seconds between two looks for what is done, and whether Dask still works
# of each Dask process: how often it looks at itself. By default up to a hundred times a second, which takes time from what is
# trained beside it
RARELY = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__INTERVAL": "1s",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
}
# Dask without last words: what is asked to end while it begins would say so with a traceback and a warning. What goes wrong is raised
# here, and what jobs warn of is said where they are waited for
QUIET = "import sys; sys.excepthook = lambda *error: None; from dask.__main__ import main; {first}main()"
FORKED = "forkserver"  # a way of Python's to start processes, on Linux and macOS
# what workers that are forks of one process have in common, in place of Dask's own choice, which has no PyTorch
SHARED = "from distributed.utils import get_mp_context; get_mp_context().set_forkserver_preload(['distributed', 'lmclib.runs.joint']); "
REACHED = 10  # seconds within which a scheduler that is there answers


class Workers:
    """Processes of one thread each, from entering this context to leaving it, or to the end of the process that asked for them.

    Args:
        n: how many.
        scheduler: of a cluster that is there already, its address or the path of its scheduler file: its workers are used, however
            many, and left as they are. They must see the same folders as this process.
        resources: what each job takes of such a worker, by the names that `dask worker --resources` gave: `{"GPU": 1}`.

    Raises:
        LmcError: there is no scheduler, a worker of its has several threads, or none has the resources.
    """

    def __init__(self, n: int, scheduler: str | Path | None = None, resources: Mapping[str, float] | None = None):
        self.n, self.scheduler, self.resources = n, scheduler, dict(resources or {})
        self.timed: list[tuple[str, str, float, float]] = []  # of each job: kind, worker, start and stop

    def __enter__(self) -> "Workers":
        from distributed import Client

        if self.scheduler is not None:
            return self._join()
        with ExitStack() as stack:
            processes = stack.enter_context(ChildProcesses())
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lmclib-workers-")))
            found = folder / "scheduler.json"
            self.dask = _start_dask(processes, found, self.n)
            while not found.exists():  # for which a client would wait without end
                self._check()
                time.sleep(POLL)
            self.client = stack.enter_context(Client(scheduler_file=str(found)))
            self.address = self.client.scheduler.address
            self.stack = stack.pop_all()
        return self

    def _join(self) -> "Workers":
        from distributed import Client

        given = (
            {"scheduler_file": str(self.scheduler)} if isinstance(self.scheduler, Path) else {"address": self.scheduler}
        )
        if (
            isinstance(self.scheduler, Path) and not self.scheduler.is_file()
        ):  # for which a client would wait without end
            raise LmcError(
                f"scheduler_file={str(self.scheduler)!r}: is not there; must be one that `dask scheduler` wrote"
            )
        for name in ("distributed", "distributed.client"):  # what goes wrong is raised here
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with ExitStack() as stack:
            try:
                self.client = stack.enter_context(Client(**given, timeout=REACHED))
            except (OSError, ValueError, TypeError) as error:
                raise LmcError(
                    f"scheduler={str(self.scheduler)!r}: cannot be reached ({first_line(error)}); must be one such as tcp://10.0.0.1:8786"
                ) from None
            self.address = self.client.scheduler.address
            there = self.client.scheduler_info(n_workers=-1)["workers"]
            if several := [name for name, worker in there.items() if worker["nthreads"] > 1]:
                raise LmcError(f"scheduler: its worker {several[0]} has several threads; must have one (--nthreads 1)")
            fit = [worker for worker in there.values() if self._fits(worker["resources"])]
            if there and not fit:
                known = sorted(
                    {f"{name}={n:g}" for worker in there.values() for name, n in worker["resources"].items()}
                )
                raise LmcError(
                    f"resources={self.resources}: no worker has them; must be among {', '.join(known) or 'none'} (dask worker --resources)"
                )
            self.dask, self.n = [], len(fit)
            self.stack = stack.pop_all()
        return self

    def _fits(self, resources: Mapping[str, float]) -> bool:
        return all(resources.get(name, 0) >= n for name, n in self.resources.items())

    @property
    def dashboard(self) -> str:
        """Where to see in a browser what they do, in words."""
        if not self.client.run_on_scheduler(_has_bokeh):
            return "no dashboard, for which bokeh must be installed where the scheduler runs"
        return f"dashboard: {self.client.dashboard_link}"

    @property
    def train(self) -> bool:
        """Whether they train: processes of this machine leave that to this one where it has a GPU, which trains all networks together."""
        return self.scheduler is not None or default_device().type == "cpu"

    def __exit__(self, *why: object) -> None:
        self.stack.__exit__(*why)

    def submit(
        self, kind: str, job: Callable[..., None], *given: object, after: Sequence["Future"] = (), priority: int = 0
    ) -> "Future":
        """Have a worker do a job, once others are done; what it warns of is said where its end is waited for.

        Args:
            kind: what it is, as the dashboard names it.
            job: a function of the library, that all processes know.
            *given: plain values.
            after: the jobs that must be done before.
            priority: above 0 for what is done before other jobs that could be begun, too.
        """
        self._check()
        how = {"key": f"{kind}-{uuid4().hex}", "priority": priority, "pure": False}
        if self.resources:
            how["resources"] = self.resources
        return self.client.submit(do, packed(job, given), list(after), **how)

    def timings(self) -> pd.DataFrame:
        """When each job that was waited for was done, by the clock of its worker: measured anew each time, never remembered.

        Returns:
            A row a job: `kind`, `worker` (counted from 1), `start` and `stop` in seconds from the first start.
        """
        table = pd.DataFrame(self.timed, columns=["kind", "worker", "start", "stop"])
        table = table.sort_values("start", ignore_index=True)
        table["worker"] = table["worker"].rank(method="dense").astype(int)
        return table.assign(stop=table.stop - table.start.min(), start=table.start - table.start.min())

    def finished(self, jobs: Mapping["Future", object]) -> Iterator[object]:
        """What belongs to each job, when it is done.

        Raises:
            LmcError: what went wrong in one of them, or Dask was killed.
        """
        for what, error in self.outcomes(jobs):
            if error is not None:
                raise error
            yield what

    def outcomes(
        self, jobs: Mapping["Future", object], meanwhile: Callable[[], object] = bool
    ) -> Iterator[tuple[object, Exception | None]]:
        """What belongs to each job, when it ended, and what went wrong in it; the others go on.

        Args:
            jobs: from `submit`, and what belongs to each.
            meanwhile: called again and again while none ends.

        Raises:
            LmcError: Dask was killed.
        """
        from dask.utils import key_split
        from distributed import CancelledError, as_completed

        left = as_completed(jobs)
        try:
            while not left.is_empty():
                done = left.next_batch(block=False)  # Dask alone would wait without end where its processes have ended
                ended = [job for job in done if job.status == "finished"]
                # all at once, as each question to the scheduler takes a while
                reports = dict(zip(ended, self.client.gather(ended), strict=True))
                for job in done:
                    report = reports[job] if job in reports else self._report(job)
                    if isinstance(report, Exception):
                        yield jobs[job], report
                        continue
                    self.timed.append((key_split(job.key), report.worker, report.start, report.stop))
                    for warning in report.warnings:
                        warnings.warn(warning, stacklevel=2)
                    yield jobs[job], None
                self._check()
                if not done:
                    meanwhile()
                    time.sleep(POLL)
        # of all jobs whose scheduler is gone, and of one whose answer was on its way or is asked for in vain
        except (CancelledError, OSError):
            raise self._gone() from None

    def _check(self) -> None:
        lost = self.scheduler is not None and self.client.status != "running"
        if lost or any(process.poll() is not None for process in self.dask):
            raise self._gone()

    def _report(self, job: "Future") -> "Report | Exception":
        """What a job reports, or what went wrong in it. One whose report was lost with its worker has been done again meanwhile."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError

        try:
            return job.result()  # which raises what was raised there, and from where
        except (CancelledError, CommClosedError):
            raise
        except KilledWorker:
            return LmcError(
                f"workers={self.n}: one was killed, as where memory is short; what was stored is kept; try fewer"
            )
        except Exception as error:
            return error

    def _gone(self) -> LmcError:
        if self.scheduler is None:
            return LmcError(
                "workers: Dask ended before they had done their work; what was stored is kept; try workers=1"
            )
        return LmcError(
            f"scheduler={self.address!r}: is gone; what was stored is kept: go on with another, or with workers of your own"
        )


_current: ContextVar[Workers | None] = ContextVar("current workers", default=None)


@contextmanager
def side_by_side(
    n: int, scheduler: str | Path | None = None, resources: Mapping[str, float] | None = None
) -> Iterator[None]:
    """Within this context networks are trained and pairs measured in `n` processes; 1 is this process alone.

    Args:
        n: how many.
        scheduler: as in `Workers`, in place of processes of its own.
        resources: as in `Workers`.
    """
    if n == 1 and scheduler is None:
        yield
        return
    with current(Workers(n, scheduler, resources)):
        yield


@contextmanager
def current(workers: Workers) -> Iterator[Workers]:
    """Within this context these workers are the ones that there are; they begin and end with it."""
    with workers:
        token = _current.set(workers)
        try:
            yield workers
        finally:
            _current.reset(token)


def current_workers() -> Workers | None:
    """The workers that there are, or None where this process does everything by itself."""
    return _current.get()


def _start_dask(processes: ChildProcesses, found: Path, workers: int) -> list[Popen]:
    """Start Dask's scheduler and workers, which meet where `found` says."""
    python, first = [sys.executable, "-W", "ignore", "-c"], ""
    environment = {
        **os.environ,
        **RARELY,
        "DASK_LOGGING__DISTRIBUTED": "critical",  # what goes wrong is raised here
        "DASK_LOGGING__ASYNCIO": "critical",
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "None",  # who is silent may be paused; whose process ends is known at once
    }
    if FORKED in get_all_start_methods():  # workers that are forks of one process import nothing twice
        environment["DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD"], first = FORKED, SHARED
    meeting = ["--scheduler-file", str(found), "--host", "127.0.0.1"]
    dashboard = ["--dashboard-address", "127.0.0.1:0"]  # any free port, as others may run workers of their own
    if not _has_bokeh():
        dashboard.append("--no-dashboard")
    size = ["--nworkers", str(workers), "--nthreads", "1", "--local-directory", str(found.parent)]
    commands = [
        [*python, QUIET.format(first=""), "scheduler", *meeting, *dashboard, "--port", "0"],
        [*python, QUIET.format(first=first), "worker", *meeting, "--no-dashboard", *size],
    ]
    return [processes.start(command, env=environment) for command in commands]


def stop_if_unwanted() -> None:
    """To be called in a job again and again: stops it where nobody waits for it, as its scheduler is gone or it was given up.

    Raises:
        LmcError: nobody does; what is trained is then stored where it stands.
    """
    from distributed import get_worker
    from distributed.core import Status
    from distributed.worker import thread_state

    worker = get_worker()
    task = worker.state.tasks.get(thread_state.key)
    if worker.status in (Status.closing, Status.closed, Status.failed) or task is None or task.state == "cancelled":
        raise LmcError("workers: nobody waits for this job any more")


def _has_bokeh() -> bool:
    return find_spec("bokeh") is not None
