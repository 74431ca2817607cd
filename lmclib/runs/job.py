"""A job, as a worker does it.

Dask's scheduler reads what it hands out, and loads the files of what it reads before it welcomes a worker. So this one imports
nothing that takes time, and the job lies in it packed.
"""

import pickle
import time
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Report(NamedTuple):
    """What is known of a job that was done. The scheduler's own notes shift times by guesses at the difference between clocks."""

    warnings: list[str]
    worker: str
    start: float
    stop: float


def packed(job: Callable[..., None], given: Sequence) -> bytes:
    """A job and what it is given, for `do`."""
    from distributed.protocol.pickle import dumps  # functions that only this process knows, too

    return dumps((job, given))


def do(work: bytes, after: Sequence[Report]) -> Report:
    """Do a job in a worker, once others are done."""
    from distributed import get_worker

    from lmclib.device import compute_quietly

    compute_quietly()
    job, given = pickle.loads(work)
    start = time.time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        job(*given)
    return Report([str(warning.message) for warning in caught], get_worker().address, start, time.time())
