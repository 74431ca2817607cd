"""Files that are whole or not there: written beside their place, synced and renamed, with the digest of their content in their name."""

import errno
import hashlib
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import CDLL, get_errno
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from lmclib.errors import LmcError

DIGITS = 16  # of a digest, in a file's name
STALE = 3600  # seconds after which a part of a file is one that somebody left behind who was killed
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux's renameat2
Content = TypeVar("Content")


@contextmanager
def written(folder: Path, name: str | Callable[[Path], str]) -> Iterator[Path]:
    """A path to write to; what was written there is then synced to disk and gets its name in one step, or nothing is left of it.

    Args:
        folder: where; made if need be.
        name: the file's name, or what makes it from what was written.

    Raises:
        LmcError: the disk is full, or the folder may not be written to.
    """
    part = folder / f"{uuid4().hex}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        part.touch(exist_ok=False)  # with the mode that any new file has here, unlike those of `tempfile`
        yield part
        _sync(part)
        os.replace(part, folder / (name if isinstance(name, str) else name(part)))
        _sync(folder)
    except OSError as error:
        raise _cannot_write(folder, error) from None
    finally:
        with suppress(OSError):  # it has its name, or cannot be there
            part.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with written(path.parent, path.name) as part:
        part.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict:
    """What a JSON file says; nothing where it is not there or damaged, which is said."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise _cannot_read(path, error) from None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        warnings.warn(f"{path} is damaged (no valid JSON); what it says counts as missing", stacklevel=2)
        return {}
    return said


def write_addressed(folder: Path, name: str, suffix: str, write: Callable[[Path], object]) -> None:
    """Write `name.DIGEST.suffix` in place of an earlier one of that name."""
    older = set(_addressed(folder, name, suffix))
    with written(folder, lambda part: f"{name}.{digest(part)}.{suffix}") as part:
        write(part)
        now = folder / f"{name}.{digest(part)}.{suffix}"
    for path in older - {now}:
        path.unlink(missing_ok=True)


def find_addressed(folder: Path, name: str, suffix: str) -> Path | None:
    """The file `name.DIGEST.suffix`, whose content was compared with its name; None where there is none.

    A damaged file is set aside, with a warning, as if it had never been there: what it held is computed anew.
    """
    for path in _addressed(folder, name, suffix):
        try:
            if is_whole(path):
                return path
        except FileNotFoundError:  # just replaced by somebody else
            continue
        except OSError as error:
            raise _cannot_read(path, error) from None
        _set_aside(path, "its content does not match its name")
    return None


def read_addressed(folder: Path, name: str, suffix: str, read: Callable[[Path], Content]) -> Content | None:
    """What is in the file `name.DIGEST.suffix`; None where there is none, or none that is whole and can be read."""
    path = find_addressed(folder, name, suffix)
    if path is None:
        return None
    try:
        return read(path)
    except MemoryError:
        raise
    except Exception as error:  # whatever its library says of a file that is none of its kind
        said = str(error).splitlines() or [type(error).__name__]
        _set_aside(path, f"no valid {suffix}: {said[0]}")
        return None


def drop_addressed(folder: Path, name: str, suffix: str) -> None:
    """Remove the file `name.DIGEST.suffix`, if there is one."""
    try:
        for path in _addressed(folder, name, suffix):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from None


def is_addressed(path: Path) -> bool:
    """Whether a file carries a digest in its name, as `name.DIGEST.suffix`.

    Example:
        >>> is_addressed(Path("table.0123456789abcdef.parquet")), is_addressed(Path("run.json"))
        (True, False)
    """
    return re.fullmatch(rf".+\.[0-9a-f]{{{DIGITS}}}\.\w+", path.name) is not None


def is_whole(path: Path) -> bool:
    """Whether an addressed file holds what its name says."""
    return digest(path) == path.name.split(".")[-2]


def exchange(new: Path, old: Path) -> None:
    """Put a folder in another's place in one step, so that who reads it never finds it missing or in part; that one is then `new`.

    Where the system cannot do it in one step, the place is empty for the moment between two.
    """
    if not old.exists():
        new.rename(old)
    elif not _exchanged(new, old):
        aside = old.with_name(f"{old.name}.old")
        old.rename(aside)
        new.rename(old)
        aside.rename(new)


def _exchanged(new: Path, old: Path) -> bool:
    """Whether Linux exchanged two names."""
    if sys.platform != "linux" or not hasattr(libc := CDLL(None, use_errno=True), "renameat2"):
        return False
    if libc.renameat2(AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(old), RENAME_EXCHANGE) == 0:
        return True
    if get_errno() in (errno.EINVAL, errno.ENOSYS):  # a file system that cannot
        return False
    raise OSError(get_errno(), os.strerror(get_errno()), str(old))


def _addressed(folder: Path, name: str, suffix: str) -> list[Path]:
    """The files `name.DIGEST.suffix`."""
    form = re.compile(rf"{re.escape(name)}\.[0-9a-f]{{{DIGITS}}}\.{suffix}")
    return [path for path in folder.glob(f"{name}.*.{suffix}") if form.fullmatch(path.name)]


def _set_aside(path: Path, why: str) -> None:
    """Give a damaged file a name under which nobody looks for it."""
    try:
        path.rename(path.with_name(f"{path.name}.damaged"))
        where = f"it is now {path.name}.damaged, and what it held is computed anew"
    except OSError:  # a store that may only be read
        where = "what it held counts as missing"
    warnings.warn(f"{path} is damaged ({why}); {where}", stacklevel=2)


def _sweep(folder: Path) -> None:
    """Remove parts of files that were left behind."""
    for part in folder.glob("*.part"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink()


def digest(path: Path) -> str:
    """The first digits of the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cannot_write(folder: Path, error: OSError) -> LmcError:
    return LmcError(
        f"{folder}: cannot be written to ({error.strerror or error}); nothing was stored there: make room, or give another store"
    )


def _cannot_read(path: Path, error: OSError) -> LmcError:
    return LmcError(f"{path}: cannot be read ({error.strerror or error}); must be a file that may be read")
