"""Locks between processes: whoever wants the same thing waits, is told for whom, and then finds it done."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from lmclib.errors import LmcError

PATIENCE = 2  # seconds of waiting before it is said for whom


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock that other processes wait for; its file goes when it is released.

    Args:
        path: of the lock's file.
        what: what the others wait for, in words.

    Raises:
        LmcError: the folder may not be written to.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, path, what)
    except OSError as error:
        raise LmcError(f"{path.parent}: cannot be written to ({error.strerror or error}); give another store") from None
    try:
        _note(path)
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: who waits for it notices, and makes a new one
        lock.release()


def _acquire(lock: FileLock, path: Path, what: str) -> None:
    """Wait for a lock; after a while say for whom."""
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        tqdm.write(f"waiting for {_holder(path)}, which is busy with {what}", file=sys.stderr)
        lock.acquire()


def _note(path: Path) -> None:
    """Write down who holds a lock, for those who wait."""
    with suppress(OSError):  # a disk may be full: who waits then does not learn the number
        path.write_text(str(os.getpid()))


def _holder(path: Path) -> str:
    try:
        return f"process {int(path.read_text())}"
    except (OSError, ValueError):
        return "another process"


def is_held(path: Path) -> bool:
    """Whether a process holds a lock: one whose process is gone is held by nobody, though its file is still there.

    Where this cannot be found out, as in a folder that may only be read, it counts as held.
    """
    try:
        with FileLock(path, blocking=False):
            return False
    except (Timeout, OSError):
        return True


def remove_abandoned(path: Path) -> None:
    """Remove the file of a lock that nobody holds; one that is held stays."""
    with suppress(Timeout), FileLock(path, blocking=False):
        path.unlink(missing_ok=True)  # while it is held, as above
