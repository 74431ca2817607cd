"""Files that are whole or not there: written beside their place, synced and renamed, with the digest of their content in their name."""

import hashlib
import json
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lmclib.errors import LmcError

DIGITS = 16  # of a digest, in a file's name


@contextmanager
def written(folder: Path, name: str | Callable[[Path], str]) -> Iterator[Path]:
    """A path to write to; what was written there is then synced to disk and gets its name in one step, or nothing is left of it.

    Args:
        folder: where; made if need be.
        name: the file's name, or what makes it from what was written.

    Raises:
        LmcError: the disk is full, or the folder may not be written to.
    """
    part = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
        os.close(handle)
        part = Path(temporary)
        yield part
        os.chmod(part, 0o666 & ~_umask())  # a temporary file is its owner's alone
        _sync(part)
        os.replace(part, folder / (name if isinstance(name, str) else name(part)))
        _sync(folder)
    except OSError as error:
        raise _cannot_write(folder, error) from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with written(path.parent, path.name) as part:
        part.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict:
    """What a JSON file says; nothing where it is not there or damaged, which is said."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        warnings.warn(f"{path} is damaged (no valid JSON); what it says counts as missing", stacklevel=2)
        return {}


def write_addressed(folder: Path, name: str, suffix: str, write: Callable[[Path], object]) -> None:
    """Write `name.DIGEST.suffix` in place of an earlier one of that name."""
    older = set(folder.glob(f"{name}.*.{suffix}"))
    with written(folder, lambda part: f"{name}.{digest(part)}.{suffix}") as part:
        write(part)
        now = folder / f"{name}.{digest(part)}.{suffix}"
    for path in older - {now}:
        path.unlink(missing_ok=True)


def find_addressed(folder: Path, name: str, suffix: str) -> Path | None:
    """The file `name.DIGEST.suffix`, whose content was compared with its name; None where there is none.

    A damaged file is set aside, with a warning, as if it had never been there: what it held is computed anew.
    """
    for path in folder.glob(f"{name}.*.{suffix}"):
        if re.fullmatch(rf"{re.escape(name)}\.[0-9a-f]{{{DIGITS}}}\.{suffix}", path.name) is None:
            continue
        if is_whole(path):
            return path
        set_aside(path)
    return None


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


def set_aside(path: Path) -> None:
    """Give a damaged file a name under which nobody looks for it."""
    try:
        path.rename(path.with_name(f"{path.name}.damaged"))
        where = f"it is now {path.name}.damaged, and what it held is computed anew"
    except OSError:  # a store that may only be read
        where = "what it held counts as missing"
    warnings.warn(f"{path} is damaged (its content does not match its name); {where}", stacklevel=2)


def digest(path: Path) -> str:
    """The first digits of the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def _umask() -> int:
    mask = os.umask(0)  # the only way to read it is to set it
    os.umask(mask)
    return mask


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
