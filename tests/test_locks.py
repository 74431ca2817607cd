"""Locks between processes: one at a time, and who waits is told for whom."""

import os
import subprocess
import sys

import pytest
from tagged import bounded

from lmclib import locks
from lmclib.errors import LmcError

COUNT = """
import sys
from pathlib import Path
from lmclib.locks import locked

folder = Path(sys.argv[1])
for _ in range(20):
    with locked(folder / "lock", "counting"):
        n = int((folder / "count").read_text())
        (folder / "count").write_text(str(n + 1))
"""
HOLD = """
import sys
from pathlib import Path
from lmclib.locks import locked

with locked(Path(sys.argv[1]) / "lock", "holding"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_only_one_of_many_processes_counts_at_a_time(tmp_path):
    (tmp_path / "count").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)]) for _ in range(8)]
    assert [process.wait() for process in processes] == [0] * 8
    assert (tmp_path / "count").read_text() == "160"
    assert os.listdir(tmp_path) == ["count"]


def test_who_waits_is_told_for_whom(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks, "PATIENCE", 0.2)
    write = locks.tqdm.write
    command, pipe = [sys.executable, "-c", HOLD, str(tmp_path)], subprocess.PIPE
    with bounded(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)) as holder:
        assert holder.stdout.readline() == "held\n"

        def said(text, **options):
            write(text, **options)
            holder.stdin.close()  # it is released only when it was said who holds it

        monkeypatch.setattr(locks.tqdm, "write", said)
        with locks.locked(tmp_path / "lock", "waiting"):
            assert holder.wait() == 0
    assert capsys.readouterr().err == f"waiting for process {holder.pid}, which is busy with waiting\n"
    assert not os.listdir(tmp_path)


def test_a_lock_of_somebody_who_was_killed_is_free(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        holder.kill()
    assert os.listdir(tmp_path) == ["lock"]
    with locks.locked(tmp_path / "lock", "going on"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())
    assert not os.listdir(tmp_path)


def test_a_lock_goes_with_an_exception_and_where_nothing_can_be_noted(tmp_path, monkeypatch):
    with pytest.raises(ZeroDivisionError), locks.locked(tmp_path / "lock", "failing"):
        raise ZeroDivisionError
    assert not os.listdir(tmp_path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with locks.locked(tmp_path / "lock", "on a full disk"):
        assert os.listdir(tmp_path) == ["lock"]
    assert not os.listdir(tmp_path)


def test_a_folder_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(LmcError, match=r"file: cannot be written to \(.*\); give another store"),
        locks.locked(tmp_path / "file" / "lock", "nothing"),
    ):
        pass
