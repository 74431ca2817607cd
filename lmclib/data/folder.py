"""Folders of images: decoded once, kept as memory-mapped bytes beside the other data, and decoded anew when a file has changed."""

import hashlib
import json
import os
import warnings
from math import prod
from pathlib import Path

import numpy as np
import torch

from lmclib.data.dataset import Dataset, Split, fingerprint
from lmclib.errors import LmcError
from lmclib.files import read_json, write_text, written
from lmclib.locks import locked
from lmclib.root import from_root

DECODED = "data/decoded"  # from the repository's root; ignored by git
PARTS = ("train", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


def folder(name: str) -> Dataset:
    """The data set in a folder with `train/CLASS/*` and `test/CLASS/*` images of one size.

    Args:
        name: `folder:PATH`.

    Raises:
        LmcError: no such folder, different classes in its two parts, images that cannot be read or differ in size.
    """
    root = folder_root(name)
    files = {part: _files(name, root / part) for part in PARTS}
    classes = tuple(sorted(set(map(_class, files["train"]))))
    if odd := sorted(set(classes) ^ set(map(_class, files["test"]))):
        raise LmcError(f"data={name!r}: train/ and test/ must hold the same classes; {odd[0]!r} is in one of them only")
    splits, digest = _decoded(name, root, files, classes)
    return Dataset(root.name, classes, *splits, shift=splits[0].x.shape[-1] // 8, flip=True, known_fingerprint=digest)


def folder_root(name: str) -> Path:
    """The folder that `folder:PATH` names."""
    return from_root(name.removeprefix("folder:")).resolve()


def _files(name: str, root: Path) -> dict[str, os.stat_result]:
    """All images of a part, by class and name, with their sizes and times; plain strings, as they are looked at in every process.

    Raises:
        LmcError: none, or a class without any.
    """
    try:
        folders = sorted(entry.path for entry in os.scandir(root) if entry.is_dir())
        files = {folder: [e for e in os.scandir(folder) if e.name.lower().endswith(SUFFIXES)] for folder in folders}
    except OSError as error:
        raise LmcError(f"data={name!r}: {root} must hold one folder of images per class ({error})") from None
    if not files or not all(files.values()):
        empty = next((folder for folder, found in files.items() if not found), root)
        raise LmcError(f"data={name!r}: {root} must hold one folder of images per class; none in {empty}")
    return {e.path: e.stat() for found in files.values() for e in sorted(found, key=lambda e: e.name)}


def _class(path: str) -> str:
    return path.rsplit(os.sep, 2)[-2]


def _decoded(
    name: str, root: Path, files: dict[str, dict[str, os.stat_result]], classes: tuple[str, ...]
) -> tuple[list[Split], str]:
    """Both splits, from the copy that was decoded before or decoded now, and their fingerprint."""
    stamp = _stamp(files)
    at = from_root(DECODED) / stamp
    if not (card := _card(at)):
        with locked(at.with_suffix(".lock"), f"decoding {root.name}"):
            if not (card := _card(at)):
                _decode(name, files, classes, at)
                card = _card(at)
    return [_opened(at, part, card["shapes"][part]) for part in PARTS], card["fingerprint"]


def _card(at: Path) -> dict:
    """The shapes and the fingerprint of what was decoded; nothing where it is not there, or no longer whole."""
    card = read_json(at / "card.json")
    for part, shape in card.get("shapes", {}).items():
        for path, size in ((at / f"{part}.x", prod(shape)), (at / f"{part}.y", 8 * shape[0])):
            if not path.exists() or path.stat().st_size != size:
                warnings.warn(f"{path} is damaged (its size does not match its card); it is decoded anew", stacklevel=2)
                return {}
    return card


def _stamp(files: dict[str, dict[str, os.stat_result]]) -> str:
    """What tells whether a file of a folder has changed: every file's name, size and time of change."""
    digest = hashlib.sha256()
    for found_files in files.values():
        for path, found in found_files.items():
            digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:20]


def _decode(name: str, files: dict[str, dict[str, os.stat_result]], classes: tuple[str, ...], at: Path) -> None:
    splits = {part: _decode_part(name, part, list(files[part]), classes) for part in PARTS}
    shapes = {part: tuple(split.x.shape) for part, split in splits.items()}
    if shapes["train"][1:] != shapes["test"][1:]:
        raise LmcError(f"data={name!r}: images of train/ and test/ must have one size")
    for part, split in splits.items():
        for suffix, tensor in (("x", split.x), ("y", split.y)):
            with written(at, f"{part}.{suffix}") as path:
                path.write_bytes(tensor.numpy().data)  # unlike `tofile` it says why it cannot
    card = {"shapes": shapes, "fingerprint": fingerprint(splits["train"], splits["test"])}
    write_text(at / "card.json", json.dumps(card))  # last, as it says that the rest is there


def _decode_part(name: str, part: str, files: list[str], classes: tuple[str, ...]) -> Split:
    from torchvision.datasets.folder import default_loader
    from tqdm.auto import tqdm

    images = []
    for path in tqdm(files, desc=f"decode {part}", unit="image", delay=1, leave=False):
        try:
            images.append(np.asarray(default_loader(path)))
        except OSError:
            raise LmcError(f"data={name!r}: {path} cannot be read as an image; remove or replace it") from None
        if images[-1].shape != images[0].shape:
            shapes = f"{images[-1].shape[:2]} where the first is {images[0].shape[:2]}"
            raise LmcError(f"data={name!r}: images must have one size; {path} is {shapes}")
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Split(x, torch.tensor([classes.index(_class(path)) for path in files]))


def _opened(at: Path, part: str, shape: list[int]) -> Split:
    """A split whose images stay on disk until they are used, shared by all processes."""
    x = torch.from_file(str(at / f"{part}.x"), shared=False, size=prod(shape), dtype=torch.uint8)
    y = torch.from_numpy(np.fromfile(at / f"{part}.y", dtype=np.int64))
    return Split(x.view(*shape), y)
