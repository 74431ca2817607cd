"""The ledger's rows: judged, written, read and shown."""

import json
import os

import pytest

import lmclib as lmc
from lmclib.book import ledger
from lmclib.book.settings import Settings
from lmclib.charts.ledger import as_html
from lmclib.errors import LmcError


def judged(store, claim, holds, given=()):
    settings = Settings({"profile": "smoke", "store": str(store)}, {"store", *given})
    return lmc.judge(claim, holds, "m", [1, 2, 3], "units", "toy", "fig-x", settings=settings, chapter="toy_barriers")


def test_what_is_exact_has_no_spread(tmp_path):
    settings = Settings({"profile": "smoke", "store": str(tmp_path)}, {"store"})
    row = lmc.judge("B11", {0: True}, "m", [], "units", "exact", "fig-x", settings=settings, chapter="toy_barriers")
    assert row.spread.item() == "exact, no spread"


def test_rows_replace_their_own_and_keep_others(tmp_path):
    judged(tmp_path, "B11", {0: True})
    judged(tmp_path, "A3", {0: [True, False]})
    judged(tmp_path, "B11", {0: False})
    table = ledger.table(tmp_path, "smoke").set_index("claim")
    assert (table.verdict["B11"], table.verdict["A3"], table.verdict["A1"]) == ("fails", "holds in part", "not run yet")
    assert table.spread["B11"] == "2 ± 1 units (n = 3)"
    assert list(table.index.unique()) == list(lmc.CLAIMS)
    assert json.loads((tmp_path / "ledger/smoke/toy_barriers.json").read_text()).keys() == {"B11", "A3"}


def test_a_row_that_is_there_is_left_alone(tmp_path):
    judged(tmp_path, "B11", {0: True})
    path = tmp_path / "ledger/smoke/toy_barriers.json"
    os.utime(path, (0, 0))
    judged(tmp_path, "B11", {0: True})
    assert path.stat().st_mtime == 0
    assert os.listdir(path.parent) == ["toy_barriers.json"]


def test_damaged_rows_are_written_anew(tmp_path):
    judged(tmp_path, "B11", {0: True})
    path = tmp_path / "ledger/smoke/toy_barriers.json"
    path.write_text(path.read_text()[:40])
    with pytest.warns(UserWarning, match=r"toy_barriers\.json is damaged"):
        assert ledger.table(tmp_path, "smoke").set_index("claim").verdict["B11"] == "not run yet"
    with pytest.warns(UserWarning, match=r"toy_barriers\.json is damaged"):
        judged(tmp_path, "B11", {0: True})
    assert ledger.table(tmp_path, "smoke").set_index("claim").verdict["B11"] == "holds"


def test_a_rerun_with_other_parameters_leaves_the_ledger_alone(tmp_path):
    judged(tmp_path, "B11", {0: True})
    row = judged(tmp_path, "B11", {0: False}, given=["seed"])
    assert row.verdict.item() == "fails"
    assert ledger.table(tmp_path, "smoke").set_index("claim").verdict["B11"] == "holds"


def test_unknown_claims_and_empty_verdicts_are_refused(tmp_path):
    with pytest.raises(LmcError, match="claim='Z9'"):
        judged(tmp_path, "Z9", {0: True})
    with pytest.raises(LmcError, match="holds="):
        judged(tmp_path, "B11", {})


def test_the_ledger_escapes_what_it_read(tmp_path):
    judged(tmp_path, "B11", {0: True})
    path = tmp_path / "ledger/smoke/toy_barriers.json"
    path.write_text(path.read_text().replace('"m"', '"<script>"'))
    assert "<script>" not in as_html(ledger.table(tmp_path, "smoke")).split("<script>document")[0]
