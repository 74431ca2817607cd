"""Committed tables of other code, measured again by today's from the networks that are committed."""

import json

import pandas as pd
import pytest

import lmclib as lmc
from lmclib.book import profiles, reproduce, results
from lmclib.book.committed import check_results
from lmclib.book.measuring import measure
from lmclib.files import find_addressed, write_addressed
from lmclib.root import ROOT


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Committed results of a chapter, tables and networks, which other code than today's made."""
    folder = tmp_path_factory.mktemp("reproduce")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lmclib.store.results.RESULTS", str(folder / "committed"))
        patch.setitem(lmc.FORKING, "paper", {**lmc.FORKING["smoke"], "model": "mlp-4"})
        patch.setitem(profiles.BATCH_SIZE, "paper", 32)
        given = {"fork_epochs": "[0, 1]"}
        measure("resnet_forking", {"profile": "paper", "store": str(folder / "runs"), **given})
        results.pack("resnet_forking", given, folder / "runs")
        for signed in (folder / "committed").glob("*/provenance.json"):
            signed.write_text(json.dumps({**json.loads(signed.read_text()), "code": "0" * 20}))
        for i, network in enumerate((folder / "committed").glob("*/*.safetensors")):
            network.parent.rename(folder / "committed" / f"{i:020d}")  # where today's code does not look for it
        yield folder / "committed"


def test_networks_of_other_code_are_measured_by_todays_and_nothing_is_trained(packed, monkeypatch):
    monkeypatch.setattr("lmclib.runs.group.TrainingGroup.train", lambda *_: pytest.fail("trains"))
    elsewhere = results.find_results("resnet_forking", "paper", packed.parent / "elsewhere")
    assert "the code of barrier curve, network values, sibling trajectory has changed since" in elsewhere.said
    assert "measured again" not in elsewhere.said
    rows = pd.DataFrame(reproduce.reproduce({}, progress=False))
    curves = rows[rows.kind == "barrier_curve"]
    done = curves[curves.status == reproduce.MEASURED]
    assert 0 < len(done) < len(curves), "the networks of the first seed's first and last fork are committed"
    assert set(rows.status) == {reproduce.MEASURED, reproduce.NO_NETWORKS}
    assert done.alike.all()
    assert (done.difference == 0).all()
    elsewhere = results.find_results("resnet_forking", "paper", packed.parent / "elsewhere")
    said = f"has changed since; {len(done)} of {len(curves)} tables of barrier curve, measured again by today's code, differ by at most 0"
    assert said in elsewhere.said
    listed = [row for row in check_results() if row["reproduced"]]
    assert {row["name"] for row in listed} == {row["name"] for _, row in rows[rows.status == "measured"].iterrows()}
    again = pd.DataFrame(reproduce.reproduce({}, progress=False))
    assert set(again.status) == {reproduce.BEFORE, reproduce.NO_NETWORKS}


def test_a_table_whose_numbers_moved_is_found(packed):
    reproduce.reproduce({}, progress=False)
    name = next(iter(json.loads((packed / reproduce.REPRODUCED).read_text())))
    table = pd.read_parquet(find_addressed(packed / name, "table", "parquet"))
    moved = table.assign(loss=table.loss + 0.25)
    write_addressed(packed / name, "table", "parquet", lambda path: moved.to_parquet(path, index=False))
    signed = packed / name / "provenance.json"
    signed.write_text(json.dumps({**json.loads(signed.read_text()), "code": "1" * 20}))
    (found,) = [row for row in reproduce.reproduce({}, progress=False) if row["name"] == name]
    assert (found["status"], found["column"]) == (reproduce.MEASURED, "loss"), "it is another table than the one before"
    assert found["difference"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    "other",
    [
        pd.DataFrame({"layer": ["a", "c"], "loss": [1.0, 2.0]}),
        pd.DataFrame({"layer": ["a", "b"], "loss": [1.0, None]}),
        pd.DataFrame({"layer": ["a", "b"], "error": [1.0, 2.0]}),
        pd.DataFrame({"layer": ["a"], "loss": [1.0]}),
    ],
)
def test_other_rows_columns_words_and_gaps_are_not_alike(other):
    table = pd.DataFrame({"layer": ["a", "b"], "loss": [1.0, 2.0]})
    assert reproduce.compare(table, table)["difference"] == 0
    assert not reproduce.compare(table, other)["alike"]


def test_what_is_written_down_is_of_tables_that_are_committed():
    folder = ROOT / "data" / "results"
    for name, said in json.loads((folder / reproduce.REPRODUCED).read_text()).items():
        assert (folder / name / "provenance.json").exists(), name
        assert {"alike", "difference", "column", "code", "first_code", "hardware", "commit", "date"} <= set(said)
