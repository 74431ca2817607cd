"""Files that are whole or not there, whatever happens while they are written, and who may read them."""

import os
import stat
import sys
import threading
import time
from pathlib import Path

import pytest
from disks import fill, forbidden, read_only, small_disk

from lmclib import files
from lmclib.errors import LmcError
from lmclib.files import exchange, find_addressed, read_addressed, read_json, write_addressed, write_text, written


@pytest.fixture
def umask():
    """Sets the umask, and sets it back."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_mode_that_the_umask_leaves(mask, mode, umask, tmp_path):
    umask(mask)
    write_text(tmp_path / "text", "text")
    write_addressed(tmp_path, "bytes", "bin", lambda path: path.write_bytes(b"1"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 2
    assert set(modes.values()) == {mode}


def test_file_and_folder_are_synced_before_anything_is_called_stored(tmp_path, monkeypatch):
    seen = []

    def noted(what, do):
        def call(*given):
            seen.append((what, "folder" if what == "sync" and stat.S_ISDIR(os.fstat(given[0]).st_mode) else "file"))
            return do(*given)

        return call

    monkeypatch.setattr(files.os, "fsync", noted("sync", os.fsync))
    monkeypatch.setattr(files.os, "replace", noted("name", os.replace))
    write_text(tmp_path / "text", "text")
    assert seen == [("sync", "file"), ("name", "file"), ("sync", "folder")]


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_what_was_there(name, tmp_path, monkeypatch):
    write_text(tmp_path / "text", "before")
    write_addressed(tmp_path, "a", "bin", lambda path: path.write_bytes(b"before"))
    there = sorted(tmp_path.iterdir())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, name, full)
    said = r"cannot be written to \(No space left on device\); nothing was stored there: make room"
    with pytest.raises(LmcError, match=said):
        write_text(tmp_path / "text", "after")
    with pytest.raises(LmcError, match=said):
        write_addressed(tmp_path, "a", "bin", lambda path: path.write_bytes(b"after"))
    assert sorted(tmp_path.iterdir()) == there
    assert (tmp_path / "text").read_text() == "before"
    assert read_addressed(tmp_path, "a", "bin", Path.read_bytes) == b"before"


def test_a_full_disk_is_one_line_and_no_stray_file(tmp_path):
    with small_disk(tmp_path / "disk", "1m") as disk:
        write_addressed(disk, "a", "bin", lambda path: path.write_bytes(b"before"))
        filler = fill(disk)
        with pytest.raises(LmcError, match=r"No space left on device"):
            write_addressed(disk, "a", "bin", lambda path: path.write_bytes(b"x" * 100_000))
        with pytest.raises(LmcError, match=r"No space left on device"):
            write_text(disk / "folder" / "text", "x" * 100_000)
        assert not list(disk.rglob("*.part"))
        filler.unlink()
        assert read_addressed(disk, "a", "bin", Path.read_bytes) == b"before"


def test_a_folder_that_may_only_be_read_is_one_line(tmp_path):
    write_addressed(tmp_path, "a", "bin", lambda path: path.write_bytes(b"before"))
    with read_only(tmp_path):
        with pytest.raises(LmcError, match=r"cannot be written to \(Read-only file system\)"):
            write_text(tmp_path / "text", "text")
        with pytest.raises(LmcError, match=r"cannot be written to \(Read-only file system\)"):
            files.drop_addressed(tmp_path, "a", "bin")
        assert read_addressed(tmp_path, "a", "bin", Path.read_bytes) == b"before"


def test_a_folder_of_somebody_else_is_one_line(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    write_text(folder / "secret", "{}")
    (folder / "secret").chmod(0)
    for above in folder.parents[:2]:  # pytest's own folders are closed to others
        above.chmod(0o755)
    with forbidden(folder):
        with pytest.raises(LmcError, match=r"cannot be written to \(Permission denied\)"):
            write_text(folder / "text", "text")
        with pytest.raises(LmcError, match=r"secret: cannot be read \(Permission denied\)"):
            read_json(folder / "secret")
    assert os.listdir(folder) == ["secret"]


def test_an_exception_while_writing_leaves_nothing(tmp_path):
    def interrupted():
        with written(tmp_path, "text") as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not os.listdir(tmp_path)


def test_parts_of_somebody_who_was_killed_go_with_time(tmp_path):
    old, new = tmp_path / "old.part", tmp_path / "new.part"
    for path in (old, new):
        path.write_text("half")
    long_ago = time.time() - files.STALE - 1
    os.utime(old, (long_ago, long_ago))
    write_text(tmp_path / "text", "text")
    assert sorted(os.listdir(tmp_path)) == ["new.part", "text"]  # the new one may be somebody's who is still writing


@pytest.mark.parametrize("text", ['{"a": 1', "", "[1]", "null", "\xff\xfe", "[" * 100_000])
def test_damaged_json_counts_as_missing(text, tmp_path):
    path = tmp_path / "some.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.warns(UserWarning, match=r"some\.json is damaged \(no valid JSON\)"):
        assert read_json(path) == {}


def test_a_file_that_is_none_of_its_kind_is_set_aside(tmp_path):
    write_addressed(tmp_path, "a", "bin", lambda path: path.write_bytes(b"no number"))
    with pytest.warns(UserWarning, match="no valid bin: invalid literal for int"):
        assert read_addressed(tmp_path, "a", "bin", lambda path: int(path.read_text())) is None
    assert find_addressed(tmp_path, "a", "bin") is None


@pytest.mark.parametrize("together", [True, False])
def test_a_folder_is_exchanged_whole(together, tmp_path, monkeypatch):
    if not together:  # as on a system without such a call
        monkeypatch.setattr(files, "_exchanged", lambda new, old: False)
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    exchange(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "file").read_text() == "new"
    assert (tmp_path / "new" / "file").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]
    (tmp_path / "old" / "file").unlink()
    (tmp_path / "old").rmdir()
    exchange(tmp_path / "new", tmp_path / "old")
    assert os.listdir(tmp_path) == ["old"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it takes two steps")
def test_a_reader_finds_a_folder_at_every_moment_of_an_exchange(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    missing, over = [], threading.Event()

    def read():
        while not over.is_set():
            if not (tmp_path / "two" / "file").exists():
                missing.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3001):
        exchange(tmp_path / "one", tmp_path / "two")
    over.set()
    reader.join()
    assert not missing
    assert (tmp_path / "two" / "file").read_text() == "one"
