"""A sweep on workers that were just started, in a store of its own, and when each of its jobs was done."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lmclib.book.sweep import Swept
from lmclib.book.sweep_spec import sweep_of
from lmclib.runs.family import Family
from lmclib.runs.spec import ForkSpec
from lmclib.runs.workers import Workers, current_workers, side_by_side
from lmclib.store.store import Store

READY = 300  # seconds after which workers that do not answer are given up


def timed_sweep(said: Mapping[str, object], workers: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run a sweep of forks from nothing on so many worker processes. Nothing of it is remembered, as it is there for its timings.

    What every process needs once (the library, the data, fingerprints of code) is loaded before the first job.

    Args:
        said: what is swept, as `lmclib sweep` reads it.
        workers: how many processes.

    Returns:
        The table of the sweep; and a row for each of its jobs with `kind` (`parent`, `child` or `measure`), `worker`, `start` and
        `stop`, seconds from the first start, by the clock of its worker.

    Raises:
        LmcError: as `lmclib sweep`.
    """
    with tempfile.TemporaryDirectory(prefix="lmclib-timed-") as folder, Workers(workers) as started:
        swept = Swept(sweep_of(said), Path(folder), Path.cwd())
        started.client.wait_for_workers(workers, timeout=READY)
        for family in {family.code.fingerprint: family for family in swept.kind.families}.values():
            started.client.run(_load, family.spec, folder)
        with side_by_side(workers, started.address):
            return swept.run(progress=False), current_workers().timings()


def _load(spec: ForkSpec, store: str) -> None:
    """Load in a worker what its jobs need."""
    family = Family(spec, Store(store))
    assert family.code.fingerprint
    assert family.data


def efficiency(timings: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    r"""What several workers gain over one.

    $T_n$ is the time from the first start to the last stop on $n$ workers, the speed-up $T_1/T_n$, the efficiency $T_1/(nT_n)$.

    Args:
        timings: from `timed_sweep`, by the number of workers; 1 is among them.

    Returns:
        A row a number of workers: `workers`, `jobs`, `seconds`, `speed_up`, `efficiency`, `busy` (the share of all workers' time
        in which they did a job).

    Example:
        >>> one = pd.DataFrame({"worker": [1, 1], "start": [0.0, 2.0], "stop": [2.0, 4.0]})
        >>> two = pd.DataFrame({"worker": [1, 2], "start": [0.0, 0.5], "stop": [2.0, 2.5]})
        >>> efficiency({1: one, 2: two})[["seconds", "speed_up", "efficiency", "busy"]].values.tolist()
        [[4.0, 1.0, 1.0, 1.0], [2.5, 1.6, 0.8, 0.8]]
    """
    first = timings[1].stop.max()
    rows = []
    for n, table in sorted(timings.items()):
        seconds = table.stop.max()
        busy = (table.stop - table.start).sum() / (n * seconds)
        rows.append((n, len(table), seconds, first / seconds, first / seconds / n, busy))
    return pd.DataFrame(rows, columns=["workers", "jobs", "seconds", "speed_up", "efficiency", "busy"])
