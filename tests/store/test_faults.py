"""A store on a disk that fails, or with files that were damaged: one clear line, and what is missing is made anew."""

import json
import os
import tempfile
import threading
from pathlib import Path

import pandas as pd
import pytest
import torch
from disks import fill, forbidden, read_only, small_disk
from hostile import hostile_checkpoints

from lmclib import locks
from lmclib.data.digits import digits
from lmclib.errors import LmcError
from lmclib.files import digest
from lmclib.store import store as storing
from lmclib.store.store import Store
from lmclib.store.writer import BackgroundWriter

LARGE = 100_000  # numbers, more than fit on the small disks here


def squares(n: int = 3) -> pd.DataFrame:
    """A table that is quick to make."""
    return pd.DataFrame({"square": [k * k for k in range(n)]})


def noise(n: int = LARGE) -> pd.DataFrame:
    """A table that cannot be made smaller."""
    return pd.DataFrame({"x": torch.rand(n, generator=torch.Generator().manual_seed(0)).numpy()})


def strays(folder):
    return [path for path in folder.rglob("*") if path.suffix in (".part", ".lock")]


def planted(folder, name, suffix, content):
    """A file whose name says the digest of its content, whatever that is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "new"
    path.write_bytes(content)
    return path.rename(folder / f"{name}.{digest(path)}.{suffix}")


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    with small_disk(tmp_path / "disk", "300k") as disk:
        store = Store(disk)
        store.save_state("run", "a", {"w": torch.ones(3)})
        with pytest.raises(
            LmcError, match=r"run: cannot be written to \(.*No space left on device.*\); nothing was stored"
        ) as said:
            store.save_state("run", "a", {"w": torch.zeros(LARGE)})
        assert "\n" not in str(said.value)
        with pytest.raises(LmcError, match="No space left on device"):
            store.save_state("run", "b", {"w": torch.zeros(LARGE)})
        assert store.states("run") == {"a"}
        assert store.load_state("run", "a")["w"].tolist() == [1, 1, 1]
        assert not strays(disk)


def test_a_table_that_finds_no_room_is_not_said_to_be_stored(tmp_path):
    with small_disk(tmp_path / "disk", "300k") as disk:
        with pytest.raises(LmcError, match=r"cannot be written to \(.*No space left on device.*\)") as said:
            Store(disk).remember(noise)
        assert "\n" not in str(said.value)
        assert not list(disk.rglob("table*"))
        assert not strays(disk)
        assert len(Store(disk).remember(squares)) == 3  # smaller ones have room
        filler = fill(disk)
        with pytest.raises(LmcError, match="No space left on device"):
            Store(disk).remember(squares, n=4)
        assert not strays(disk)
        filler.unlink()
        assert len(Store(disk).remember(squares, n=4)) == 4


def test_a_place_to_go_on_from_stays_until_its_successor_is_stored(tmp_path):
    with small_disk(tmp_path / "disk", "300k") as disk:
        store = Store(disk)

        def run():
            with BackgroundWriter(store) as writer:
                writer.save("run", "resume", {"w": torch.ones(3)})
                writer.save("run", "final", {"w": torch.zeros(LARGE)})
                writer.later(store.drop_state, "run", "resume")
                writer.later(store.sign, "run", {})

        with pytest.raises(LmcError, match="No space left on device"):
            run()
        assert store.states("run") == {"resume"}
        assert not (disk / "run" / "provenance.json").exists()


def test_what_is_there_can_be_read_where_nothing_can_be_written(tmp_path):
    store = Store(tmp_path)
    table = store.remember(squares)
    store.save_state("run", "a", {"w": torch.ones(3)})
    with read_only(tmp_path):
        pd.testing.assert_frame_equal(store.remember(squares), table)
        assert store.load_state("run", "a")["w"].tolist() == [1, 1, 1]
        assert store.data_card("digits") == digits().card
        for writes in (
            lambda: store.remember(squares, n=5),
            lambda: store.save_state("run", "b", {}),
            lambda: store.describe("run", {}),
            lambda: store.drop_state("run", "a"),
        ):
            with pytest.raises(LmcError, match=r"cannot be written to \(.*Read-only file system.*\)"):
                writes()
    assert not strays(tmp_path)


def test_a_store_of_somebody_else_is_one_line(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("theirs"))
    store.remember(squares)
    shared = Path(tempfile.gettempdir())
    for above in store.root.parents:  # pytest's own folders are closed to others
        if above == shared or shared not in above.parents:
            break
        above.chmod(0o755)
    with forbidden(store.root):
        assert len(store.remember(squares)) == 3
        with pytest.raises(LmcError, match=r"cannot be written to \(.*Permission denied.*\)"):
            store.remember(squares, n=5)
        with pytest.raises(LmcError, match=r"cannot be written to \(.*Permission denied.*\)"):
            store.save_state("run", "b", {"w": torch.ones(3)})


def damage(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied"])
def test_a_damaged_table_is_computed_anew(how, tmp_path):
    store = Store(tmp_path)
    before = store.remember(squares)
    (path,) = tmp_path.rglob("table.*.parquet")
    whole = path.read_bytes()
    damage(path, how)
    with pytest.warns(UserWarning, match=r"is damaged \(its content does not match its name\); .* computed anew"):
        pd.testing.assert_frame_equal(store.remember(squares), before)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"PAR1 says nothing PAR1", b"", b"PAR1\xff\xff\xff\x7fPAR1"])
def test_a_table_that_is_none_is_computed_anew(content, tmp_path):
    store = Store(tmp_path)
    before = store.remember(squares)
    (path,) = tmp_path.rglob("table.*.parquet")
    path.unlink()
    planted(path.parent, "table", "parquet", content)
    with pytest.warns(UserWarning, match=r"is damaged \(no valid parquet") as said:
        pd.testing.assert_frame_equal(store.remember(squares), before)
    assert all("\n" not in str(warning.message) for warning in said)


@pytest.mark.parametrize("what", hostile_checkpoints(Path("touched")))
def test_a_hostile_checkpoint_is_set_aside(what, tmp_path):
    path = planted(tmp_path / "run", "a", "safetensors", hostile_checkpoints(tmp_path / "touched")[what])
    with pytest.warns(UserWarning, match=r"is damaged \(no valid safetensors") as said:
        assert Store(tmp_path).load_state("run", "a") is None
    assert "\n" not in str(said[0].message)
    assert not path.exists()
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("text", [b'{"kind": "squa', b"", b"\xff\xfe", b"[]"])
def test_damaged_json_is_written_anew(text, tmp_path, monkeypatch):
    store = Store(tmp_path)
    before = store.remember(squares)
    (provenance,) = tmp_path.rglob("provenance.json")
    provenance.write_bytes(text)
    (description,) = tmp_path.rglob("run.json")
    description.write_bytes(text)
    with pytest.warns(
        UserWarning, match=r"provenance\.json is damaged \(no valid JSON\); what it says counts as missing"
    ):
        pd.testing.assert_frame_equal(store.remember(squares), before)
    assert {"hardware", "code", "question"} <= json.loads(provenance.read_text()).keys()
    assert json.loads(description.read_text())["kind"] == "squares"

    monkeypatch.setattr(storing, "is_here", lambda name: False)  # as before a download
    (tmp_path / "data.json").write_bytes(text)
    with pytest.warns(UserWarning, match=r"data\.json is damaged"):
        card = store.data_card("digits")
    assert json.loads((tmp_path / "data.json").read_text())["digits"]["fingerprint"] == card.fingerprint


def test_who_wants_the_same_table_waits_and_finds_it_computed(tmp_path, monkeypatch, capsys):
    """Two at once, of which the first is slow: it goes on when the other has said for whom it waits."""
    heard, calls = threading.Event(), []
    write = locks.tqdm.write
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    monkeypatch.setattr(locks.tqdm, "write", lambda text, **options: (write(text, **options), heard.set()))
    question = storing.Question.of(squares, {"n": 7})

    def compute():
        calls.append(1)
        assert heard.wait(60)
        return squares(7)

    tables = []
    askers = [
        threading.Thread(target=lambda: tables.append(Store(tmp_path).table(question, compute))) for _ in range(2)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(calls) == 1
    pd.testing.assert_frame_equal(*tables)
    assert capsys.readouterr().err == f"waiting for process {os.getpid()}, which is busy with squares\n"
    assert not strays(tmp_path)
