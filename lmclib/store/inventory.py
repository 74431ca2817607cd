"""What a store holds: its runs and tables, one of them in full, the files that are damaged, and what nothing asks for any more."""

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from lmclib.errors import LmcError
from lmclib.files import is_addressed, is_whole, read_json
from lmclib.locks import is_held, remove_abandoned
from lmclib.store.address import ADDRESS
from lmclib.store.roots import DIFFERS, compare_code

WRITING = 60  # seconds within which a file that is being written has been touched


@dataclass(frozen=True)
class Entry:
    """A run or a table in its folder.

    Attributes:
        folder: named by its address.
        description: what it is, from `run.json`.
        made: where it comes from, from `provenance.json`.
    """

    folder: Path
    description: Mapping[str, object]
    made: Mapping[str, object]

    @classmethod
    def of(cls, folder: Path) -> "Entry":
        """What a folder says of itself; nothing where that is damaged or missing."""
        return cls(folder, read_json(folder / "run.json"), read_json(folder / "provenance.json"))

    @property
    def address(self) -> str:
        """The address."""
        return self.folder.name

    @property
    def kind(self) -> str:
        """`parent` or `child` for a network's run, for a table the function that computed it; empty where that is not known."""
        return str(self.description.get("kind", ""))

    @property
    def size(self) -> int:
        """All its files, in bytes."""
        return sum(size for _, size in files_in(self.folder))

    @property
    def row(self) -> dict[str, object]:
        """Address, kind, model, data, seeds, size in bytes and date, as far as they are written down."""
        networks = self.made.get("networks", [])
        known = {name: list(dict.fromkeys(one[name] for one in networks)) for name in ("model", "data", "seed")}
        for name in ("model", "seed"):  # what was made before networks were written down, or needs none
            if not known[name] and name in self.description:
                known[name] = [self.description[name]]
        return {
            "address": self.address,
            "kind": self.kind,
            "model": ", ".join(known["model"]),
            "data": ", ".join(known["data"]),
            "seeds": known["seed"],
            "size": self.size,
            "date": self.made.get("date", ""),
        }


def entries(root: Path, progress: bool = False) -> list[Entry]:
    """The runs and tables of a store, or of the committed results, in the order of their addresses.

    Args:
        root: the store's folder.
        progress: whether to show a progress bar, where it takes more than a second.

    Raises:
        LmcError: there is no such folder.
    """
    return [
        Entry.of(path)
        for path in tqdm(_folders(root), desc="read", unit="run", disable=not progress, delay=1, leave=False)
    ]


def find_entry(root: Path, start: str) -> Entry:
    """The run or table whose address starts with some digits.

    Raises:
        LmcError: none does, or several do.
    """
    found = _folders(root)
    matching = [path for path in found if path.name.startswith(start)]
    if len(matching) == 1:
        return Entry.of(matching[0])
    if not matching:
        raise LmcError(
            f"address={start!r}: is not in {root}; must be one of its {len(found)} addresses, or their first digits"
        )
    some = ", ".join(path.name for path in matching[:3]) + (", …" if len(matching) > 3 else "")
    raise LmcError(f"address={start!r}: is the start of {len(matching)} addresses ({some}); must be that of one")


def damaged_files(root: Path, progress: bool = False) -> tuple[int, list[dict[str, object]]]:
    """Compare every file of a store with the digest in its name; how many were read, and those that do not match.

    Nothing is changed: a damaged file is set aside, and what it held computed anew, when it is next asked for.

    Args:
        root: the store's folder.
        progress: whether to show a progress bar, where it takes more than a second.

    Raises:
        LmcError: there is no such folder.
    """
    files = [(path, size) for path, size in files_in(_checked(root)) if is_addressed(path) or path.suffix == ".json"]
    total, read, damaged = sum(size for _, size in files), 0, []
    with tqdm(total=total, desc="verify", unit="B", unit_scale=True, disable=not progress, delay=1, leave=False) as bar:
        for path, size in files:
            try:
                said = _damage(path)
            except FileNotFoundError:  # replaced or dropped meanwhile
                continue
            read += 1
            bar.update(size)
            if said:
                damaged.append({"path": path.relative_to(root).as_posix(), "size": size, "said": said})
    return read, damaged


def _damage(path: Path) -> str:
    if is_addressed(path):
        return "" if is_whole(path) else "its content does not match its name"
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return "it is no valid JSON"
    return ""


@dataclass(frozen=True)
class Unneeded:
    """A file or folder that nothing asks for any more: where it is, its size in bytes, and why it is not needed."""

    path: Path
    size: int
    said: str


def unneeded(root: Path, progress: bool = False) -> list[Unneeded]:
    """What nothing in a store asks for any more: runs and tables of other code than today's, damaged files that were set aside,
    files whose writing was stopped, and locks whose process is gone.

    Where it cannot be told which code made a run, or whether today's differs, it is not among them.

    Args:
        root: the store's folder.
        progress: whether to show a progress bar, where it takes more than a second.
    """
    here = entries(root, progress)
    compared = compare_code([entry.made for entry in here], progress)
    old = [
        Unneeded(entry.folder, entry.size, said)
        for entry, (status, said) in zip(here, compared, strict=True)
        if status == DIFFERS
    ]
    gone = {one.path for one in old}
    return old + [
        Unneeded(path, size, said)
        for path, size in files_in(root)
        if path.parent not in gone and (said := _left_over(path)) is not None
    ]


def _left_over(path: Path) -> str | None:
    """Why a single file is not needed; None where it may be."""
    if path.suffix == ".damaged":
        return "damaged, and set aside"
    if path.suffix == ".part":
        return "its writing was stopped" if time.time() - path.stat().st_mtime > WRITING else None
    if path.suffix == ".lock":
        return None if is_held(path) else "a lock whose process is gone"
    return None


def prune(root: Path, what: Iterable[Unneeded]) -> None:
    """Delete what is not needed.

    Raises:
        LmcError: a process is using the store, which may still need it, or the folder may not be written to.
    """
    if held := [path for path in sorted(root.glob("*.lock")) if is_held(path)]:
        raise LmcError(f"store={str(root)!r}: is in use ({held[0].name} is held); wait until what runs there is done")
    try:
        for one in what:
            if one.path.suffix == ".lock":
                remove_abandoned(one.path)
            elif one.path.is_dir():
                shutil.rmtree(one.path)
            else:
                one.path.unlink(missing_ok=True)
    except OSError as error:
        raise LmcError(f"{error.filename}: cannot be deleted ({error.strerror or error})") from None


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in _checked(root).iterdir() if ADDRESS.fullmatch(path.name) and path.is_dir())


def _checked(root: Path) -> Path:
    if not root.is_dir():
        raise LmcError(f"store={str(root)!r}: is not there; must be a folder in which runs are stored")
    return root


def files_in(folder: Path) -> list[tuple[Path, int]]:
    """The files below a folder with their sizes in bytes, in the order of their paths; those that go meanwhile are left out."""
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file():
                found.append((path, path.stat().st_size))
        except FileNotFoundError:
            continue
    return found
