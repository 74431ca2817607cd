"""What a store holds: listed, looked at, verified, and rid of what nothing asks for."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.root import ROOT
from lmclib.store import roots
from lmclib.store.dry_run import dry_run
from lmclib.store.inventory import damaged_files, entries, find_entry, prune, unneeded
from lmclib.store.store import Store
from lmclib.training.loop import train
from lmclib.training.recipe import Recipe

SPEC = lmc.ForkSpec(
    model="mlp-4", fork_epochs=(0, 1), recipe=Recipe(epochs=2, batch_size=512), checkpoint_epochs=(1, 2)
)


@pytest.fixture
def store(tmp_path):
    """The runs of two seeds, barriers between siblings and between seeds, and a table that needs no network."""
    families = lmc.fork_all([SPEC, SPEC.model_copy(update={"seed": 3})], tmp_path, progress=False)
    lmc.over_pairs(lmc.sibling_pairs(families, epochs=(-1,)), lmc.barrier_curve, progress=False, alphas=3)
    lmc.over_pairs(lmc.independent_pairs(families)[-1:], lmc.barrier_curve, progress=False, alphas=3)
    Store(tmp_path).remember(squares, n=3)
    return tmp_path


def squares(n):
    import pandas as pd

    return pd.DataFrame({"square": [k * k for k in range(n)]})


def rows(root):
    return [entry.row for entry in entries(root)]


def state(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def of_kind(root, kind):
    return [entry for entry in entries(root) if entry.kind == kind]


def holding_a_lock(path):
    """A process that holds a lock, and says so when it does."""
    code = (
        "import time\nfrom pathlib import Path\nfrom lmclib.locks import locked\n"
        f"with locked(Path({str(path)!r}), 'a test'):\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_runs_and_tables_say_what_they_are(store):
    found = sorted((row["kind"], row["model"], row["data"], row["seeds"]) for row in rows(store))
    networks = [("child", "mlp-4", "digits", [seed]) for seed in (0, 0, 0, 0, 3, 3, 3, 3)]
    tables = [("barrier_curve", "mlp-4", "digits", seeds) for seeds in ([0], [0], [0, 3], [3], [3])]
    parents = [("parent", "mlp-4", "digits", [seed]) for seed in (0, 3)]
    assert found == [*tables, *networks, *parents, ("squares", "", "", [])]
    for row in rows(store):
        assert row["size"] == sum(path.stat().st_size for path in (store / row["address"]).iterdir())
        assert len(row["date"]) == 10


def test_a_run_that_was_stopped_has_an_origin_too(tmp_path):
    class Stop(Exception):
        pass

    def stop(done, total):
        (entry,) = of_kind(tmp_path, "parent") or [None]
        if entry is not None and entry.made:  # the first checkpoint is written
            raise Stop

    recipe = Recipe(epochs=50, batch_size=512)
    spec = SPEC.model_copy(update={"fork_epochs": (1, 40), "recipe": recipe, "checkpoint_epochs": (50,)})
    with pytest.raises(Stop):
        lmc.fork(spec, tmp_path, progress=stop)
    (parent,) = of_kind(tmp_path, "parent")
    steps = 1437 // 512  # of an epoch
    assert list(parent.folder.glob(f"{steps:08d}.*"))
    assert not list(parent.folder.glob(f"{40 * steps:08d}.*")), "it was finished after all"
    assert parent.made["networks"] == [{"model": "mlp-4", "data": "digits", "seed": 0}]
    assert parent.made["roots"][1:] == ["lmclib.networks.build:initialise", "lmclib.training.loop:train"]


def test_an_address_is_found_by_its_first_digits(store):
    every = entries(store)
    for entry in every:
        digits = next(n for n in range(1, 21) if sum(e.address[:n] == entry.address[:n] for e in every) == 1)
        assert find_entry(store, entry.address[:digits]) == entry
        if digits > 1:
            with pytest.raises(LmcError, match="must be that of one"):
                find_entry(store, entry.address[: digits - 1])
    with pytest.raises(LmcError, match=f"address='xyz': is not in .*; must be one of its {len(every)} addresses"):
        find_entry(store, "xyz")
    with pytest.raises(LmcError, match="must be that of one"):
        find_entry(store, "")


def test_a_store_that_is_not_there_is_no_empty_one(tmp_path):
    for look in (entries, damaged_files, unneeded, lambda root: find_entry(root, "a")):
        with pytest.raises(LmcError, match="is not there; must be a folder in which runs are stored"):
            look(tmp_path / "nowhere")


def test_every_file_is_verified_and_damage_is_listed(store):
    addressed = [path for path in store.rglob("*") if path.suffix in (".safetensors", ".parquet", ".json")]
    assert damaged_files(store) == (len(addressed), [])
    table, network, said = (next(store.rglob(what)) for what in ("*.parquet", "*.safetensors", "provenance.json"))
    for path in (table, network):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1  # a single bit
        path.write_bytes(content)
    said.write_text(said.read_text()[:-3])
    before = state(store)
    read, damaged = damaged_files(store)
    assert read == len(addressed)
    assert {store / one["path"] for one in damaged} == {table, network, said}
    assert state(store) == before, "looking changes nothing"


def test_a_store_in_use_as_it_should_be_has_nothing_to_prune(store):
    assert unneeded(store) == []


def test_what_nothing_asks_for_is_found_and_deleted_and_nothing_else(store):
    run, table = of_kind(store, "child")[0].folder, of_kind(store, "barrier_curve")[0].folder
    for folder in (run, table):
        rewrite(folder / "provenance.json", lambda made: made.update(code="0" * 20))
    part_of_networks = of_kind(store, "barrier_curve")[1].folder
    unwritten, kept = (entry.folder for entry in of_kind(store, "child")[1:3])
    rewrite(unwritten / "provenance.json", lambda made: [made.pop(name) for name in ("code", "roots", "parts")])
    (own,) = of_kind(store, "squares")
    rewrite(own.folder / "provenance.json", lambda made: made.update(code="0" * 20))  # a reader's: cannot be compared
    old, new, damaged = store / "tmpabc.part", kept / "tmpdef.part", kept / "table.0123456789abcdef.parquet.damaged"
    for path in (old, new, damaged, run / "tmpghi.part"):
        path.write_bytes(b"12345")
    hour_ago = time.time() - 3600
    for path in (old, run / "tmpghi.part"):  # the second goes with its run
        os.utime(path, (hour_ago, hour_ago))
    dead = holding_a_lock(store / "0123.lock")
    kill(dead)
    before = state(store)

    found = unneeded(store)
    assert state(store) == before, "looking deletes nothing"
    assert {one.path for one in found} == {run, table, old, damaged, store / "0123.lock"}
    size = {one.path: one.size for one in found}
    assert size[damaged] == 5
    assert size[run] == sum(path.stat().st_size for path in run.iterdir())
    said = {one.path: one.said for one in found}
    assert said[run] == said[table] == "made by other code than today's"
    assert said[store / "0123.lock"] == "a lock whose process is gone"

    prune(store, found)
    gone = {path for path in before if run in path.parents or table in path.parents}
    gone |= {old, damaged, store / "0123.lock"}
    assert state(store) == {path: content for path, content in before.items() if path not in gone}
    assert part_of_networks.exists()
    assert unneeded(store) == []


def test_networks_of_other_code_take_their_measurements_with_them(store, monkeypatch):
    today = roots.code_fingerprint
    monkeypatch.setattr(roots, "code_fingerprint", lambda *asked: "changed" if train in asked else today(*asked))
    (own,) = of_kind(store, "squares")
    assert {one.path for one in unneeded(store)} == {entry.folder for entry in entries(store)} - {own.folder}


def test_nothing_is_deleted_while_a_process_uses_the_store(store):
    damaged = store / "x.damaged"
    damaged.write_text("12345")
    process = holding_a_lock(store / "0123.lock")
    try:
        found = unneeded(store)
        assert [one.path for one in found] == [damaged], "a lock that is held is needed"
        with pytest.raises(LmcError, match=r"is in use \(0123\.lock is held\); wait"):
            prune(store, found)
        assert damaged.exists()
        assert (store / "0123.lock").exists()
    finally:
        kill(process)
    prune(store, unneeded(store))
    assert not damaged.exists()
    assert not (store / "0123.lock").exists()


def test_what_is_left_after_pruning_still_answers(store):
    prune(store, unneeded(store))
    with dry_run():  # raises where anything would be computed
        families = lmc.fork_all([SPEC], store)
        lmc.over_pairs(lmc.sibling_pairs(families, epochs=(-1,)), lmc.barrier_curve, alphas=3)
