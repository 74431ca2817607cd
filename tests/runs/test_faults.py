"""Runs that meet bad luck: damaged checkpoints, a full disk, a store that may only be read, a seed that diverges."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from contextlib import ExitStack
from dataclasses import replace

import pandas as pd
import pytest
import torch
from disks import fill, read_only, small_disk
from tagged import bounded

import lmclib as lmc
from lmclib.book.ledger import part_table
from lmclib.book.settings import Settings
from lmclib.errors import LmcError
from lmclib.runs import joint, plan, workers
from lmclib.runs.fork import fork_all
from lmclib.training.loop import Diverged
from lmclib.training.recipe import Recipe
from lmclib.training.stack import TrainingStack

RECIPE = Recipe(epochs=2, batch_size=128, milestones=(1,))
SPEC = lmc.ForkSpec(model="mlp-8", fork_epochs=(0, 1), siblings=2, recipe=RECIPE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A family that was trained without any bad luck."""
    return lmc.fork(SPEC, tmp_path_factory.mktemp("whole"), progress=False)


@pytest.fixture
def family(whole, tmp_path):
    """The same family in a store that may be damaged."""
    shutil.copytree(whole.store.root, tmp_path / "store")
    return lmc.fork(SPEC, tmp_path / "store", progress=False)


@pytest.fixture
def every_epoch(monkeypatch):
    """Runs write down where they are at every epoch."""
    monkeypatch.setattr(plan, "RESUME_SECONDS", 1e-9)


@pytest.fixture
def nothing_trains(monkeypatch):
    """Whatever trains now fails."""

    def start():
        monkeypatch.setattr(joint, "train", lambda *_, **__: pytest.fail("trained again"))

    return start


def content(family):
    """All that a family's folders hold, by name; what it took is another matter."""
    root = family.store.root
    kept = [path for path in root.rglob("*") if path.suffix in (".safetensors", ".json")]
    return {path.relative_to(root): path.read_bytes() for path in kept if path.name != "provenance.json"}


def look_at_all(family):
    """Load every network of a family."""
    for fork in family.fork_epochs:
        family.parent(fork)
        for k in range(family.spec.siblings):
            for epoch in family.epochs(fork):
                family.child(fork, k, epoch)


def stored(family, at, name):
    (path,) = (family.store.root / at).glob(f"{name}.*.safetensors")
    return path


def damage(path, how):
    before = path.read_bytes()
    if how == "truncated":
        path.write_bytes(before[: len(before) // 2])
    elif how == "flipped":
        path.write_bytes(before[:-9] + bytes([before[-9] ^ 1]) + before[-8:])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "swapped":
        other = next(one for one in sorted(path.parent.glob("0*.safetensors")) if one != path)
        aside = path.with_name("aside")
        path.rename(aside)
        other.rename(path)
        aside.rename(other)


class Killed(Exception):
    pass


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "swapped"])
def test_a_damaged_child_is_trained_anew_with_the_same_bits(how, family, whole):
    last = max(family.checkpoint_steps(0))
    damage(stored(family, family.child_address(0, 1), f"{last:08d}"), how)
    with pytest.warns(UserWarning, match=r"is damaged \(its content does not match its name\); .* computed anew"):
        look_at_all(family)
    assert content(family) == content(whole)


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "swapped"])
def test_a_damaged_fork_is_trained_anew_with_the_same_bits(how, family, whole):
    """Where the children are there, and where they are not."""
    damage(stored(family, family.parent_address, f"{family.epoch_steps:08d}"), how)
    with pytest.warns(UserWarning, match="is damaged"):
        look_at_all(family)
    assert content(family) == content(whole)
    damage(stored(family, family.parent_address, f"{family.epoch_steps:08d}"), how)
    for sibling in (0, 1):
        shutil.rmtree(family.store.root / family.child_address(family.epoch_steps, sibling))
    with pytest.warns(UserWarning, match="is damaged"):
        look_at_all(lmc.fork(SPEC, family.store, progress=False))
    assert content(family) == content(whole)


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "kept"])
def test_a_place_to_go_on_from_that_is_damaged_is_done_without(how, whole, tmp_path, every_epoch):
    def kill(done, total):
        if done > 0.8 * total:
            raise Killed

    with pytest.raises(Killed):
        lmc.fork(SPEC, tmp_path, progress=kill)
    places = list(tmp_path.rglob("resume.*.safetensors"))
    assert places
    for path in places:
        damage(path, how)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        again = lmc.fork(SPEC, tmp_path, progress=False)
    assert len([warning for warning in said if "is damaged" in str(warning.message)]) == (
        0 if how == "kept" else len(places)
    )
    assert content(again) == content(whole)


def test_a_full_disk_keeps_the_place_to_go_on_from(whole, tmp_path, every_epoch):
    with small_disk(tmp_path / "disk", "2m") as disk:
        fillers, left = [], []

        def full(done, total):
            if done > 0.8 * total and not fillers:
                fillers.append(fill(disk))

        with pytest.raises(LmcError, match=r"cannot be written to \(.*No space left on device.*\)") as said:
            lmc.fork(SPEC, disk / "store", progress=full)
        assert "\n" not in str(said.value)
        assert list(disk.rglob("resume.*.safetensors"))
        assert not [path for path in disk.rglob("*") if path.suffix in (".part", ".lock")]
        fillers[0].unlink()
        again = lmc.fork(SPEC, disk / "store", progress=lambda done, total: left.append(total))
        assert left[0] < sum(max(whole.checkpoint_steps(step)) - step for step in whole.fork_steps for _ in range(2))
        assert content(again) == content(whole)


def test_a_store_that_may_only_be_read_answers_what_it_has(family, nothing_trains):
    def look(chosen):
        (again,) = fork_all([SPEC], chosen, progress=False)
        table = lmc.barrier_evolution([again], 3, progress=False)
        settings = Settings({"profile": "smoke", "store": str(chosen)}, {"store"})
        row = part_table([lmc.judge("B11", [lmc.Part("p", (1, 2), "units", 0)], "toy", settings, "toy_barriers")])
        return table, row

    before = look(family.store.root)
    nothing_trains()
    with read_only(family.store.root):
        for one, other in zip(before, look(family.store.root), strict=True):
            pd.testing.assert_frame_equal(one, other)
        missing = SPEC.model_copy(update={"seed": 5})
        with pytest.raises(LmcError, match=r"cannot be written to \(Read-only file system\); give another store"):
            lmc.fork(missing, family.store.root, progress=False)
        with pytest.raises(LmcError, match=r"cannot be written to \(Read-only file system\); give another store"):
            lmc.barrier_evolution([family], 4, progress=False)


def test_a_damaged_note_of_a_divergence_is_written_anew(family):
    at = family.store.root / family.child_address(0, 0)
    (at / "diverged.json").write_text('{"said": "lr')
    with pytest.warns(UserWarning, match=r"diverged\.json is damaged"):
        assert family.divergence(at.name) is None


WANT = """
import sys
import lmclib as lmc
from lmclib.runs import joint

joint.train = lambda *_, **__: sys.exit("trained again")
lmc.fork(lmc.ForkSpec.model_validate_json(sys.argv[1]), sys.argv[2], progress=False)
"""


def test_who_wants_the_same_runs_waits_and_trains_nothing(whole, tmp_path):
    """Another process asks while this one trains, which goes on when the other says for whom it waits."""
    others, said = [], []

    def slowly(done, total):
        if not others:
            command = [sys.executable, "-c", WANT, SPEC.model_dump_json(), str(tmp_path)]
            others.append(stack.enter_context(bounded(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))))
            said.append(others[0].stderr.readline())

    with ExitStack() as stack:
        here = lmc.fork(SPEC, tmp_path, progress=slowly)
        said.append(others[0].communicate()[1])
    assert said == [f"waiting for process {os.getpid()}, which is busy with train mlp-8 on digits\n", ""]
    assert others[0].returncode == 0
    assert content(here) == content(whole)


@pytest.fixture
def one_seed_diverges(monkeypatch):
    """All networks of seed 1 are no numbers after their first step."""
    load = TrainingStack.load

    def poisoned(self, k, run):
        if run.random_stream[1] == 1:
            bad = {
                key: value * float("nan") if value.is_floating_point() else value for key, value in run.state.items()
            }
            run = replace(run, state=bad)
        load(self, k, run)

    monkeypatch.setattr(TrainingStack, "load", poisoned)


@pytest.fixture
def dask_here(monkeypatch, tmp_path):
    """Dask's scheduler and a worker as threads of this process, which are there at once."""
    from distributed import LocalCluster

    size = {"n_workers": 1, "threads_per_worker": 1, "processes": False}
    with LocalCluster(**size, dashboard_address=":0", local_directory=tmp_path / "dask") as cluster:

        def start(processes, found, workers):
            found.write_text(json.dumps({"address": cluster.scheduler_address}))
            return []

        monkeypatch.setattr(workers, "_start_dask", start)
        yield


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_one_seed_that_diverges_leaves_the_others_alone(
    side_by_side, whole, tmp_path, one_seed_diverges, request, nothing_trains
):
    if side_by_side > 1:
        request.getfixturevalue("dask_here")
    specs = [SPEC, SPEC.model_copy(update={"seed": 1})]
    good, bad = fork_all(specs, tmp_path, progress=False, workers=side_by_side)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        table = lmc.barrier_evolution([good, bad], 3, progress=False)
    said = [str(warning.message) for warning in said]
    lost = [text for text in said if text.startswith("lr=0.1: the loss of")]
    assert sorted(text.split("the loss of ")[1].split(" is no")[0] for text in lost) == [
        "child 0 of fork 0 (seed 1)",
        "child 1 of fork 0 (seed 1)",
        "the parent (seed 1)",
    ]
    assert any(text.startswith("barrier_curve: a pair is left out, as lr=0.1: the loss of child 0") for text in said)
    assert set(table.seed) == {0}
    for fork in whole.fork_epochs:
        for k in range(2):
            expected = whole.child(fork, k)
            assert all(torch.equal(value, expected[key]) for key, value in good.child(fork, k).items())
    assert len(bad.diverged()) == 3
    nothing_trains()
    with pytest.raises(Diverged, match=r"the parent \(seed 1\) is no longer finite"):
        lmc.fork(specs[1], tmp_path, progress=False, workers=side_by_side)
    with pytest.warns(UserWarning, match="a pair is left out"):
        again = lmc.barrier_evolution(fork_all(specs, tmp_path, progress=False), 3, progress=False)
    pd.testing.assert_frame_equal(again, table)
