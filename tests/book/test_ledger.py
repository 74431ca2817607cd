"""The ledger's rows: judged, written, read and shown."""

import json
import os

import pytest

import lmclib as lmc
from lmclib.book import ledger
from lmclib.book.settings import Settings
from lmclib.claims.catalogue import CLAIMS, FIGURES
from lmclib.errors import LmcError
from lmclib.store.dry_run import dry_run


def judged(store, claim, *means, given=(), profile="smoke", unit="units"):
    settings = Settings({"profile": profile, "store": str(store)}, {"store", *given})
    parts = [lmc.Part(f"part {i}", (mean, mean + 0.1), unit, 0) for i, mean in enumerate(means)]
    return ledger.part_table([lmc.judge(claim, parts, "toy", settings, "toy_barriers")])


def verdicts(store, profile="smoke"):
    return ledger.table(store, profile).set_index("claim").verdict


def test_rows_replace_their_own_and_keep_others(tmp_path, monkeypatch):
    monkeypatch.setattr("lmclib.store.results.RESULTS", str(tmp_path / "results"))  # none is committed
    judged(tmp_path, "B11", 1)
    judged(tmp_path, "A3", 1, -1)
    judged(tmp_path, "B11", -1)
    found = verdicts(tmp_path)
    assert (found["B11"], found["A3"], found["A1"]) == ("fails", "mixed", "not run")
    assert list(found.index.unique()) == list(lmc.CLAIMS)
    assert json.loads((tmp_path / "ledger/smoke/toy_barriers.json").read_text()).keys() == {"B11", "A3"}


def test_a_part_comes_back_as_it_was(tmp_path):
    table = judged(tmp_path, "B11", 1)
    assert table.part.tolist() == ["part 0"]
    assert table["claimed"].item() == "above 0"
    (row,) = (row for row in ledger.rows(tmp_path, "smoke") if row["claim"] == "B11")
    assert ledger.parts_in(row) == [lmc.Part("part 0", (1, 1.1), "units", 0)]


def test_a_row_that_is_there_is_left_alone(tmp_path):
    judged(tmp_path, "B11", 1)
    path = tmp_path / "ledger/smoke/toy_barriers.json"
    os.utime(path, (0, 0))
    judged(tmp_path, "B11", 1)
    assert path.stat().st_mtime == 0
    assert os.listdir(path.parent) == ["toy_barriers.json"]


def test_damaged_rows_are_written_anew(tmp_path):
    judged(tmp_path, "B11", 1)
    path = tmp_path / "ledger/smoke/toy_barriers.json"
    path.write_text(path.read_text()[:40])
    with pytest.warns(UserWarning, match=r"toy_barriers\.json is damaged"):
        assert verdicts(tmp_path)["B11"] == "not run"
    with pytest.warns(UserWarning, match=r"toy_barriers\.json is damaged"):
        judged(tmp_path, "B11", 1)
    assert verdicts(tmp_path)["B11"] == "holds"


def test_rows_of_an_earlier_form_are_not_shown(tmp_path):
    path = tmp_path / "ledger/smoke/toy_barriers.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"B11": {"claim": "B11", "verdict": "holds"}}))
    assert verdicts(tmp_path)["B11"] == "not run"


def test_a_rerun_with_other_parameters_leaves_the_ledger_alone(tmp_path):
    judged(tmp_path, "B11", 1)
    row = judged(tmp_path, "B11", -1, given=["seed"])
    assert row.verdict.item() == "fails"
    assert verdicts(tmp_path)["B11"] == "holds"


def test_a_dry_run_hands_its_rows_on(tmp_path):
    with dry_run() as found:
        judged(tmp_path, "B11", 1)
    assert [row["claim"] for row in found.judged] == ["B11"]
    assert not list(tmp_path.iterdir())


def test_scales_stand_beside_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr("lmclib.store.results.RESULTS", str(tmp_path / "results"))
    judged(tmp_path / "store", "B11", 1)
    judged(tmp_path / "results", "B11", -1, profile="cifar")
    found = ledger.table(tmp_path / "store", "smoke").query("claim == 'B11'")
    assert dict(zip(found.profile, found.verdict, strict=True)) == {"smoke": "holds", "cifar": "fails"}


def test_unknown_claims_and_empty_verdicts_are_refused(tmp_path):
    with pytest.raises(LmcError, match="claim='Z9'"):
        judged(tmp_path, "Z9", 1)
    with pytest.raises(LmcError, match="claim='B11': has no part to judge"):
        judged(tmp_path, "B11")


def test_every_claim_has_an_objection_and_a_link():
    for claim in CLAIMS.values():
        assert claim.objection.endswith(".")
        assert claim.link.startswith("https://arxiv.org/abs/")
        assert not claim.rule.endswith(".")
    assert {key if isinstance(key, str) else key[0] for key in FIGURES} <= set(CLAIMS)
