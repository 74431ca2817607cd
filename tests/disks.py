"""Disks on which writing fails: a full one, one that may only be read, and a folder of somebody else's."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    """A disk of a given size, which only root can make."""
    at.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at))
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextmanager
def read_only(at: Path) -> Iterator[Path]:
    """A folder as on a disk that may only be read, which only root can make."""
    _mount("--bind", str(at), str(at))
    try:
        _mount("-o", "remount,bind,ro", str(at))
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextmanager
def forbidden(at: Path) -> Iterator[Path]:
    """A folder that this process may read but not write to; root becomes nobody for a while, as permissions do not bind it."""
    mode = at.stat().st_mode
    at.chmod(0o555)
    if root := os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        yield at
    finally:
        if root:
            os.seteuid(0)
        at.chmod(mode)


def fill(disk: Path) -> Path:
    """Fill a disk with one file, which is returned."""
    path = disk / "filler"
    try:
        with path.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                while True:
                    try:
                        file.write(b"\0" * size)
                    except OSError:
                        break
    except OSError:
        pass
    return path


def _mount(*options: str) -> None:
    done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
