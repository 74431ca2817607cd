"""Bundles and checkpoints that somebody made to do harm, and what is said of them; shared with the count of faults."""

import hashlib
import io
import json
import os
import pickle
import struct
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

AT = "0123456789abcdef0123"  # an address


class Touch:
    """What touches a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def named(content: bytes, name: str = "table", suffix: str = "parquet") -> str:
    """The name that a file of this content has in a store."""
    return f"{name}.{hashlib.sha256(content).hexdigest()[:16]}.{suffix}"


def make(
    path: Path, members: Mapping[str, bytes], change: Callable[[tarfile.TarInfo], object] = id, **contents
) -> Path:
    """A bundle as the library would write it, of any files under any names, each member changed before it is added.

    Args:
        path: of the bundle.
        members: the contents by their names.
        change: what is done to each member.
        **contents: in place of what the list of contents would say.
    """
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    said = json.dumps({"files": digests, "data": {}, **contents}).encode()
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as bundle:
        for name, content in [("bundle.json", said), *members.items()]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if name != "bundle.json":
                change(member)
            bundle.addfile(member, io.BytesIO(content))
    return path


def hostile_names() -> Iterator[tuple[str, str]]:
    """Names that no file of a store has, and what is said of them."""
    table = named(b"x")
    for name in (f"../{AT}/{table}", f"{AT}/../{table}", f"{AT}/../../{table}", f"..\\{AT}\\{table}", ".."):
        yield name, "leads out of the store"
    for name in (f"/{AT}/{table}", f"/etc/{table}", f"\\{AT}\\{table}", f"C:/{AT}/{table}"):
        yield name, "is an absolute path"
    for name in (
        table,
        f"{AT[:-1]}/{table}",
        f"{AT.upper()}/{table}",
        f"{AT}0/{table}",
        "ledger/run.json",
        "data.json",
        f"./{AT}/{table}",
    ):
        yield name, "is in no folder that is named by an address"
    for name in (
        "table.py",
        "table.pkl",
        ".bashrc",
        "table.parquet",
        "table.0123.parquet",
        f"deep/{table}",
        "",
        f"{table}.damaged",
        f"{table}\n",
        "x.part",
        "x.lock",
        named(b"x", "resume", "safetensors"),
    ):
        yield f"{AT}/{name}", "is no file of a store"


def special(kind: bytes, link: str = "") -> Callable[[tarfile.TarInfo], None]:
    """Makes a member one of another kind."""

    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = kind, link, 0

    return change


def hostile_bundles(folder: Path) -> Iterator[tuple[str, Path, str]]:
    """Bundles that must be refused: what each is, where it is, and what is said of it."""
    table = f"{AT}/{named(b'x')}"
    for i, (name, said) in enumerate(hostile_names()):
        yield f"name {name!r}", make(folder / f"name{i}.tar", {name: b"x"}), said
    for link, target in (("symbolic link", "/etc/passwd"), ("hard link", "../../etc/passwd")):
        kind = tarfile.SYMTYPE if link.startswith("s") else tarfile.LNKTYPE
        yield link, make(folder / f"{link}.tar", {table: b""}, special(kind, target)), "is a link"
    kinds = {
        "device": tarfile.CHRTYPE,
        "block device": tarfile.BLKTYPE,
        "pipe": tarfile.FIFOTYPE,
        "folder": tarfile.DIRTYPE,
    }
    for what, kind in kinds.items():
        yield what, make(folder / f"{what}.tar", {table: b""}, special(kind)), "is no plain file"

    yield "other content", make(folder / "content.tar", {table: b"y"}), "does not match its digest"
    yield (
        "a list of contents that lies",
        make(folder / "lies.tar", {table: b"x"}, files={table: "0" * 64}),
        "does not match its digest",
    )
    yield "a file too many", make(folder / "many.tar", {table: b"x"}, files={}), "damaged or incomplete"
    for what, said in (("no JSON", b"{"), ("a list", b"[]"), ("no text", b"\xff"), ("deep", b"[" * 100_000)):
        yield what, make(folder / f"{what}.tar", {f"{AT}/run.json": said}), "is no valid JSON"
    wrong = make(folder / "contents.tar", {table: b"x"}, files=[1])
    yield "no list of contents", wrong, "bundle.json is no list of contents"
    card = make(folder / "card.tar", {table: b"x"}, data={"digits": {"a": 1}})
    yield "no card", card, "what is no description of data"

    none = folder / "none.tar"
    with tarfile.open(none, "w") as bundle:
        bundle.addfile(tarfile.TarInfo(table))
    yield "no first member", none, "is where the list of contents, bundle.json, must be"
    with tarfile.open(folder / "twice.tar", "w") as bundle:
        first = json.dumps({"files": {table: hashlib.sha256(b"x").hexdigest()}, "data": {}}).encode()
        for name, content in (("bundle.json", first), (table, b"x"), (table, b"x")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            bundle.addfile(member, io.BytesIO(content))
    yield "one file twice", folder / "twice.tar", "is there twice"
    two = make(folder / "two.tar", {table: b"x", f"{AT}/{named(b'y')}": b"y"})
    yield "two contents of one table", two, "is there twice"

    huge = folder / "huge.tar"
    member = tarfile.TarInfo(table)
    member.size = 10**13
    first = json.dumps({"files": {table: "0" * 64}, "data": {}}).encode()
    head = tarfile.TarInfo("bundle.json")
    head.size = len(first)
    huge.write_bytes(head.tobuf() + first.ljust(512, b"\0") + member.tobuf(tarfile.GNU_FORMAT) + b"x" * 512)
    yield "10 TB that are not there", huge, "is no bundle, or an incomplete one"
    head.size = 10**13
    (folder / "vast.tar").write_bytes(head.tobuf(tarfile.GNU_FORMAT))
    yield "a list of contents of 10 TB", folder / "vast.tar", "is where the list of contents, bundle.json, must be"
    for what, content in (
        ("a pickle", pickle.dumps(Touch(folder / "touched"))),
        ("nothing", b""),
        ("noise", b"\x1f\x8b" + bytes(range(256)) * 9),
    ):
        (folder / f"{what}.tar").write_bytes(content)
        yield what, folder / f"{what}.tar", "is no bundle, or an incomplete one"
    with tarfile.open(folder / "packed.tar", "w:gz") as bundle:
        bundle.addfile(tarfile.TarInfo(table))
    yield "one that is compressed", folder / "packed.tar", "is no bundle, or an incomplete one"


def hostile_checkpoints(touched: Path) -> dict[str, bytes]:
    """What is no checkpoint, under the name of one.

    Args:
        touched: what the pickle among them makes if it is ever loaded.
    """
    huge = {"w": {"dtype": "F32", "shape": [2_500_000_000_000], "data_offsets": [0, 10_000_000_000_000]}}
    header = json.dumps(huge).encode()
    return {
        "header of 10 TB": struct.pack("<Q", 10_000_000_000_000) + b"{}",
        "tensor of 10 TB": struct.pack("<Q", len(header)) + header,
        "empty": b"",
        "pickle": pickle.dumps(Touch(touched)),
    }
