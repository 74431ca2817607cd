"""How long a result took, less what was done on the way and is none of its own."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_APART: ContextVar[float] = ContextVar("seconds spent apart", default=0.0)


@contextmanager
def apart() -> Iterator[None]:
    """Within this context no stopwatch goes on: what is done has seconds of its own, such as the training of networks that were not there yet."""
    start, before = time.monotonic(), _APART.get()
    try:
        yield
    finally:
        _APART.set(before + time.monotonic() - start)


def stopwatch() -> Callable[[], float]:
    """A function that says how many seconds it is since now, but for those spent `apart`.

    Example:
        >>> seconds = stopwatch()
        >>> with apart():
        ...     time.sleep(0.1)
        >>> seconds() < 0.1
        True
    """
    start, before = time.monotonic(), _APART.get()
    return lambda: time.monotonic() - start - (_APART.get() - before)
