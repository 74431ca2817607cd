"""Committed results: found, packed, and intact."""

import json
import shutil

import pandas as pd
import pytest
import torch

import lmclib as lmc
from lmclib.book import profiles, results
from lmclib.book.measuring import chapter_settings, measure
from lmclib.errors import LmcError
from lmclib.files import is_whole
from lmclib.root import ROOT
from lmclib.training.recipe import Recipe

RECIPE = Recipe(epochs=2, batch_size=128, milestones=(1,))
SPEC = lmc.ForkSpec(model="mlp-8", fork_epochs=(0, 1), siblings=2, recipe=RECIPE)


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """No results yet, and a profile `paper` of a few seconds."""
    folder = tmp_path / "committed"
    monkeypatch.setattr("lmclib.store.results.RESULTS", str(folder))
    monkeypatch.setitem(lmc.FORKING, "paper", {**lmc.FORKING["smoke"], "model": "mlp-4"})
    monkeypatch.setitem(profiles.BATCH_SIZE, "paper", 32)
    return folder


def test_tables_are_packed_travel_and_are_found_elsewhere(committed, tmp_path):
    runs, laptop = tmp_path / "runs", tmp_path / "laptop"
    assert results.find_results("resnet_forking", "paper", laptop) is None
    with pytest.raises(LmcError, match="is not finished"):
        results.pack("resnet_forking", {}, runs)
    with pytest.raises(LmcError, match="say --profile cifar"):
        results.pack("resnet_forking", {"profile": "cifar"}, runs)
    own = {"fork_epochs": "[0, 1]"}  # a part of the profile's forks
    measured = measure("resnet_forking", {"profile": "paper", "store": str(runs), **own})
    summary = results.pack("resnet_forking", own, runs)
    assert (summary["data"], summary["seeds"], summary["given"]) == (["digits"], [0, 1, 2], own)
    assert summary["training_seconds"] + summary["measuring_seconds"] >= 0
    for folder in (path for path in committed.iterdir() if (path / "run.json").exists()):
        signed = json.loads((folder / "provenance.json").read_text())
        here = {"hardware", "gpu", "packages", "commit", "date", "seconds"}
        table = {"question"} if list(folder.glob("*.parquet")) else set()
        assert here | table | {"code", "roots", "parts", "networks"} == set(signed)
    found = results.find_results("resnet_forking", "paper", laptop)
    pd.testing.assert_frame_equal(found.tables["final"], measured["final"])
    assert "mlp-4 on digits, 2 epochs; seeds 0 to 2; forks 0, 1; CPU" in found.said
    assert not laptop.exists()
    assert len(list(committed.glob("*/*.safetensors"))) == 6 * 3, (
        "of each seed two siblings of the first fork, and of the last one twice"
    )
    (family, *_) = lmc.fork_all([measured["families"][0].spec], laptop, progress=False)
    family.train_missing = lambda: pytest.fail("trains")
    assert not laptop.exists()
    for fork in (0, 1):
        for one, two in zip(family.siblings(fork), measured["families"][0].siblings(fork), strict=True):
            assert all(torch.equal(one[key], two[key]) for key in two)
    again = results.pack_all(runs)
    assert again["resnet_forking"].endswith(results.caption(summary))
    assert "is not finished" in again["layerwise_barriers"]


def test_results_that_would_grow_too_large_stay_as_they_are(committed, tmp_path, monkeypatch):
    given = {"fork_epochs": "[0]", "seeds": "1"}
    measure("resnet_forking", {"profile": "paper", "store": str(tmp_path / "runs"), **given})
    monkeypatch.setattr(results, "MOST_BYTES", 1000)
    with pytest.raises(LmcError, match=r"must be at most 0\.001 MB"):
        results.pack("resnet_forking", given, tmp_path / "runs")
    assert not committed.exists()


def test_committed_results_are_intact():
    """Committed tables are what their names say, signed, and small."""
    folder, size = ROOT / "data" / "results", 0
    for path in folder.rglob("*"):
        size += path.stat().st_size if path.is_file() else 0
        if path.suffix == ".parquet":
            assert is_whole(path)
            assert (path.parent / "provenance.json").exists()
    assert size <= results.MOST_BYTES
    for path in folder.rglob("*.json"):
        assert str(ROOT) not in path.read_text(), f"{path} holds a path of this machine"


@pytest.mark.parametrize(
    ("path", "kept"), [(ROOT / "data" / "my birds", "data/my birds"), ("/elsewhere/birds", "birds")]
)
def test_committed_parameters_hold_no_path_of_a_machine(path, kept):
    assert results._anywhere({"data": f"folder:{path}", "lr": 1}) == {"data": f"folder:{kept}", "lr": 1}
    for packed in ("cifar10", f"folder:{kept}"):
        assert results._anywhere({"data": packed}) == {"data": packed}


def test_networks_of_the_first_seed_are_packed_while_there_is_room(committed, tmp_path, monkeypatch):
    given = {"fork_epochs": "[0, 1]"}
    measure("resnet_forking", {"profile": "paper", "store": str(tmp_path / "runs"), **given})
    results.pack("resnet_forking", given, tmp_path / "runs")
    (size,) = {path.stat().st_size for path in committed.glob("*/*.safetensors")}
    shutil.rmtree(committed)
    monkeypatch.setattr(results, "MOST_OF_NETWORKS", 7.5 * size)
    results.pack("resnet_forking", given, tmp_path / "runs")
    seeds = [json.loads((path.parent / "run.json").read_text())["seed"] for path in committed.glob("*/*.safetensors")]
    assert (seeds.count(0), seeds.count(1), seeds.count(2)) == (6, 0, 0)  # a pair or none


def test_a_run_beside_answers_only_where_the_chapters_own_has_nothing(committed, tmp_path):
    """As where a chapter's own run lacks some tables, which other networks have."""
    store = tmp_path / "runs"
    own, other = {"fork_epochs": "[0]", "seeds": "1"}, {"fork_epochs": "[0]", "lr": "0.05"}
    for given in (own, other):
        measure("resnet_forking", {"profile": "paper", "store": str(store), **given})
        results.pack("resnet_forking", given, store, beside="slow" if given is other else "")
    assert sorted(path.stem for path in committed.glob("chapters/paper/*")) == ["resnet_forking", "resnet_forking@slow"]
    rows = {path.stem: json.loads(path.read_text()) for path in committed.glob("ledger/paper/*")}
    assert set(rows["resnet_forking"]).isdisjoint(rows.get("resnet_forking@slow", {}))
    assert all(row["run"] == "slow" for row in rows.get("resnet_forking@slow", {}).values())
    found = results.find_results("resnet_forking", "paper", tmp_path / "elsewhere", "final")
    assert found.tables["settings"].lr == 0.1
    here = {"settings": chapter_settings("resnet_forking", {"profile": "smoke", "store": str(tmp_path / "elsewhere")})}
    every = results.results_of_runs("resnet_forking", here, "final")
    assert [one.tables["settings"].lr for one in every] == [0.1, 0.05]
    for name in json.loads((committed / "chapters" / "paper" / "resnet_forking.json").read_text())["questions"]:
        shutil.rmtree(committed / name)
    found = results.find_results("resnet_forking", "paper", tmp_path / "elsewhere", "final")
    assert found.tables["settings"].lr == 0.05
    assert "resnet_forking@slow" in results.pack_all(store)


def test_the_time_of_training_is_that_of_all_stores(committed, tmp_path):
    """As where each seed is trained on another machine."""
    one, two = {"fork_epochs": "[0]", "seeds": "1"}, {"fork_epochs": "[0]", "seeds": "2"}
    measure("resnet_forking", {"profile": "paper", "store": str(tmp_path / "here"), **one})
    first = results.pack("resnet_forking", one, tmp_path / "here")["trained"]
    shutil.rmtree(tmp_path / "here")
    for safetensors in committed.glob("*/*.safetensors"):  # there was no room for them
        shutil.rmtree(safetensors.parent)
    measure("resnet_forking", {"profile": "paper", "store": str(tmp_path / "there"), **one, "seed": "1"})
    both = results.pack("resnet_forking", two, tmp_path / "there")
    assert len(both["trained"]) == 2 * len(first)
    assert first.items() <= both["trained"].items()
    assert both["training_seconds"] == round(sum(one["seconds"] for one in both["trained"].values()))


def test_a_network_that_other_code_trained_is_not_packed_again(committed, tmp_path):
    """It is known by what it is, wherever it lies."""
    given = {"fork_epochs": "[0]", "seeds": "1"}
    measure("resnet_forking", {"profile": "paper", "store": str(tmp_path / "runs"), **given})
    names = results.pack("resnet_forking", given, tmp_path / "runs")["networks"]
    for k, name in enumerate(names):
        (committed / name).rename(committed / f"{k:020}")
    assert results.pack("resnet_forking", given, tmp_path / "runs")["networks"] == [
        f"{k:020}" for k in range(len(names))
    ]
