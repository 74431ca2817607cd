"""Bundles: runs and tables in one file, made on one machine and put into the store of another under the same addresses."""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from tqdm.auto import tqdm

from lmclib.data.dataset import DataCard
from lmclib.errors import LmcError
from lmclib.files import DIGITS, read_json, write_text, written
from lmclib.store.address import ADDRESS
from lmclib.store.inventory import entries, files_in
from lmclib.store.store import CARDS

CONTENTS = "bundle.json"  # the first member: the digest of every other one, and what is known of the data sets
SUFFIXES = ("safetensors", "parquet")  # of files that carry the digest of their content in their name
PROVENANCE = "provenance.json"
NOTES = ("run.json", PROVENANCE, "diverged.json")  # beside them, in plain JSON
MOST_NOTE = 1 << 26  # bytes of a note, of which one is the list of contents
CHUNK = 1 << 20
NAME = re.compile(rf"(\w+)\.([0-9a-f]{{{DIGITS}}})\.({'|'.join(SUFFIXES)})", re.ASCII)
PLACE = "resume"  # a run's place to go on from: whoever has it is still at work there


def export_bundle(root: Path, target: Path, prefixes: Sequence[str] = (), progress: bool = False) -> tuple[int, int]:
    """Put runs and tables of a store into one tar file; how many, and how many bytes they hold.

    The same runs make the same file: owners, dates and modes are left out.

    Args:
        root: the store's folder.
        target: the file.
        prefixes: the first digits of the addresses that are wanted; all by default.
        progress: whether to show a progress bar, where it takes more than a second.

    Raises:
        LmcError: there is no such store, nothing in it has such an address, a file is damaged, or the target cannot be written.
    """
    chosen = [one for one in entries(root) if not prefixes or one.address.startswith(tuple(prefixes))]
    for prefix in prefixes:
        if not any(one.address.startswith(prefix) for one in chosen):
            raise LmcError(f"prefix={prefix!r}: is the start of no address in {root}")
    files = {
        path.relative_to(root).as_posix(): (path, size)
        for one in chosen
        for path, size in files_in(one.folder)
        if path.parent == one.folder and _belongs(path.name)
    }
    if not files:
        raise LmcError(f"store={str(root)!r}: holds no runs or tables")
    total = sum(size for _, size in files.values())
    with _bar("export", 2 * total, progress) as bar:
        digests = {name: _whole(path, size, bar) for name, (path, size) in files.items()}
        contents = json.dumps({"files": digests, "data": read_json(root / CARDS)}, sort_keys=True).encode()
        with written(target.parent, target.name) as part, tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as bundle:
            _add(bundle, CONTENTS, len(contents), io.BytesIO(contents))
            for name, (path, size) in files.items():
                with path.open("rb") as content:
                    _add(bundle, name, size, content)
                bar.update(size)
    return len(chosen), total


def import_bundle(bundle: Path, root: Path, progress: bool = False) -> tuple[int, int]:
    """Put the runs and tables of a bundle into a store, under the addresses that they have; how many files are new, and how many were there.

    All of it is checked before anything is written: every member must be what the list of contents says, with the name of a file of a
    store, and its content must match the digest in that name. Nothing in it is executed. A file that is there already stays as it
    is, and must be the same; but where a run that is the same was made, and when, may differ.

    Args:
        bundle: the tar file, from `export_bundle`.
        root: the store's folder.
        progress: whether to show a progress bar, where it takes more than a second.

    Raises:
        LmcError: the bundle holds anything else, or differs from what is there; nothing was written.
    """
    with _opened(bundle) as archive:
        try:
            members = _checked_members(archive)
            first, *others = members
            contents = _contents(_read(archive, first))
            if set(contents.files) != {member.name for member in others}:
                raise _Refused("does not hold the files that its list of contents names: it is damaged or incomplete")
            cards = _joined_cards(contents.data, root)
            with _bar("check", sum(member.size for member in others), progress) as bar:
                new = [one for one in others if _is_new(archive, one, contents.files[one.name], root, bar)]
        except _Refused as error:
            raise LmcError(f"{bundle}: {error}; nothing was imported") from None
        # notes come after what they are about: a table that does not say where it comes from counts as missing
        for member in sorted(new, key=lambda member: member.name.endswith(".json")):
            folder, name = _place(member, root)
            with written(folder, name) as part, part.open("wb") as file:
                for chunk in _chunks(archive, member):
                    file.write(chunk)
    if cards != read_json(root / CARDS):
        write_text(root / CARDS, json.dumps(cards, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return len(new), len(others) - len(new)


class _Refused(Exception):
    """Why a bundle is not imported."""


@dataclass(frozen=True)
class _Contents:
    """What the list of contents says: the SHA-256 of every file by its name, and what is known of data sets by their labels."""

    files: Mapping[str, str]
    data: Mapping[str, dict]


def _whole(path: Path, size: int, bar: tqdm) -> str:
    """The SHA-256 of a file, which holds what its name says."""
    sha = _sha(path)
    bar.update(size)
    if (match := NAME.fullmatch(path.name)) is not None and not sha.startswith(match[2]):
        raise LmcError(f"{path}: its content does not match its name; `lmclib store verify` lists all such files")
    if path.name in NOTES and not _is_mapping(path.read_bytes()):
        raise LmcError(f"{path}: is no valid JSON; `lmclib store verify` lists all such files")
    return sha


def _sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add(bundle: tarfile.TarFile, name: str, size: int, content: io.BufferedIOBase) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    bundle.addfile(member, content)


def _belongs(name: str) -> bool:
    """Whether a file of a run or table means the same elsewhere."""
    match = NAME.fullmatch(name)
    return name in NOTES if match is None else match[1] != PLACE


@contextmanager
def _opened(bundle: Path) -> Iterator[tarfile.TarFile]:
    try:
        # uncompressed, so that a small file cannot become a large one
        with bundle.open("rb") as file, tarfile.open(fileobj=file, mode="r:", errorlevel=2) as archive:
            yield archive
    except (tarfile.TarError, EOFError, OverflowError) as error:
        raise LmcError(
            f"{bundle}: is no bundle, or an incomplete one ({error}); must be a file of `lmclib store export`; nothing was imported"
        ) from None
    except OSError as error:
        raise LmcError(f"{bundle}: cannot be read ({error.strerror or error})") from None


def _checked_members(archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """The members, of which the first is the list of contents and all others can only become files of a store."""
    members, met = [], set()
    for member in archive:
        why = _refusal(member) if members else _no_contents(member)
        match = NAME.fullmatch(member.name.rpartition("/")[2])
        # two contents of one checkpoint would be as bad as two files of one name
        key = (member.name.rpartition("/")[0], match[1], match[3]) if match else member.name
        if why is None and key in met:
            why = "is there twice"
        if why is not None:
            raise _Refused(f"{member.name!r} {why}")
        met.add(key)
        members.append(member)
    if not members:
        raise _Refused("is empty")
    return members


def _no_contents(member: tarfile.TarInfo) -> str | None:
    good = member.name == CONTENTS and member.isreg() and not member.issparse() and 0 <= member.size <= MOST_NOTE
    return None if good else f"is where the list of contents, {CONTENTS}, must be"


def _refusal(member: tarfile.TarInfo) -> str | None:
    """Why a member may not become a file of a store; None where it may."""
    if member.issym() or member.islnk():
        return "is a link"
    if not member.isreg() or member.issparse() or member.size < 0:
        return "is no plain file"
    if member.name.startswith(("/", "\\")) or ":" in member.name:
        return "is an absolute path"
    if ".." in member.name.split("/") or "\\" in member.name:
        return "leads out of the store"
    folder, _, name = member.name.partition("/")
    if not ADDRESS.fullmatch(folder):
        return "is in no folder that is named by an address"
    if not _belongs(name):
        return "is no file of a store"
    if name in NOTES and member.size > MOST_NOTE:
        return f"has {member.size:,} bytes; a note has at most {MOST_NOTE:,}"
    return None


def _contents(said: bytes) -> _Contents:
    try:
        found = json.loads(said)
        return _Contents(**{name: dict(found[name]) for name in ("files", "data")})
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _Refused(f"{CONTENTS} is no list of contents") from None


def _joined_cards(new: Mapping[str, dict], root: Path) -> dict[str, dict]:
    """What is known of data sets here and there."""
    here = read_json(root / CARDS)
    for label, card in new.items():
        try:
            DataCard(**card)
        except (ValidationError, TypeError):
            raise _Refused(f"{CONTENTS} says of the data {label!r} what is no description of data") from None
        if here.get(label, card) != card:
            raise _Refused(f"its data {label!r} are not the same as those of {root}")
    return {**new, **here}


def _is_new(archive: tarfile.TarFile, member: tarfile.TarInfo, expected: str, root: Path, bar: tqdm) -> bool:
    """Whether a member, whose content is checked, is not there yet."""
    folder, name = _place(member, root)
    here, sha, note = folder / name, hashlib.sha256(), b""
    for chunk in _chunks(archive, member):
        sha.update(chunk)
        note += chunk if name in NOTES else b""
        bar.update(len(chunk))
    found, match = sha.hexdigest(), NAME.fullmatch(name)
    if found != expected or (match is not None and not found.startswith(match[2])):
        raise _Refused(f"the content of {member.name!r} does not match its digest")
    if match is None and not _is_mapping(note):
        raise _Refused(f"{member.name!r} is no valid JSON")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()) or here.is_symlink():
        raise _Refused(f"{here} is a link, or in what is no folder")
    others = [] if match is None else [path for path in folder.glob(f"{match[1]}.*.{match[3]}") if path != here]
    if here.exists() and name != PROVENANCE and not (here.is_file() and _sha(here) == found):
        others.append(here)
    if differing := [path for path in others if _belongs(path.name)]:
        raise _Refused(f"{differing[0]} is there already, and differs")
    return not here.exists()


def _is_mapping(note: bytes) -> bool:
    try:
        return isinstance(json.loads(note.decode("utf-8")), dict)
    except (ValueError, RecursionError):
        return False


def _place(member: tarfile.TarInfo, root: Path) -> tuple[Path, str]:
    folder, name = member.name.split("/")
    return root / folder, name


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    return b"".join(_chunks(archive, member))


def _chunks(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    """The content of a member; that the file ends before it is an error."""
    content = archive.extractfile(member)
    while chunk := content.read(CHUNK):
        yield chunk


def _bar(what: str, total: int, progress: bool) -> tqdm:
    return tqdm(total=total, desc=what, unit="B", unit_scale=True, disable=not progress, delay=1, leave=False)
