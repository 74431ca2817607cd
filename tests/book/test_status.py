"""The status page: a line a chapter and scale, from the records of the runs, the ledger's rows and the committed summaries."""

import json

import pytest

from lmclib.book import status
from lmclib.book.chapters import Chapter
from lmclib.claims.verdicts import Part


@pytest.fixture
def chapters(tmp_path):
    """Two executed chapters, of which one has judged a claim on three seeds."""
    rows = tmp_path / "store" / "ledger" / "smoke"
    rows.mkdir(parents=True)
    row = {"claim": "A12", "parts": [Part("a", [1.0, 2.0, 3.0], "nats", 0).as_row()], "scale": "tiny", "figure": ""}
    (rows / "layers.json").write_text(json.dumps({"A12": {**row, "chapter": "layerwise_barriers", "profile": "smoke"}}))
    given = {"profile": "smoke", "store": str(tmp_path / "store")}
    found = []
    for name, seconds in (("toy_barriers", 12.4), ("layerwise_barriers", 1234.5)):
        chapter = Chapter(name, tmp_path / f"{name}.ipynb", "key", tmp_path)
        record = {"duration": seconds, "start_time": "2026-11-27T10:00:00", "parameters": given}
        chapter.executed.write_text(json.dumps({"metadata": {"papermill": record}}))
        found.append(chapter)
    return found


def test_every_run_has_its_line(chapters, tmp_path, monkeypatch):
    monkeypatch.setattr("lmclib.store.results.RESULTS", str(tmp_path / "results"))
    page = status.status_page(chapters)
    assert "| [toy barriers](toy_barriers.ipynb) | smoke | 12 | – | – | 2026-11-27 |" in page
    assert "| [layerwise barriers](layerwise_barriers.ipynb) | smoke | 1,234 | 3 | 1 | 2026-11-27 |" in page
    assert "Built at profile `smoke` on 2026-11-27 with Python 3." in page


def test_committed_scales_come_after(chapters, tmp_path, monkeypatch):
    summary = {"training_seconds": 3000, "measuring_seconds": 600, "dates": ["2026-11-20", "2026-11-21"]}
    folder = tmp_path / "results" / "chapters" / "cifar"
    folder.mkdir(parents=True)
    (folder / "layerwise_barriers.json").write_text(json.dumps(summary))
    monkeypatch.setattr("lmclib.store.results.RESULTS", str(tmp_path / "results"))
    last = status.status_page(chapters).strip().splitlines()[-1]
    assert last == "| [layerwise barriers](layerwise_barriers.ipynb) | cifar | 3,600 | – | – | 2026-11-21 |"


def test_a_run_beside_has_a_line_of_its_own(chapters, tmp_path, monkeypatch):
    """Its rows are not counted as the chapter's own run's."""
    monkeypatch.setattr("lmclib.store.results.RESULTS", str(tmp_path / "results"))
    summary = {"training_seconds": 60, "measuring_seconds": 0, "dates": ["2026-11-29"]}
    row = {"claim": "A2", "parts": [Part("a", [1.0, 2.0], "nats", 0).as_row()], "scale": "tiny", "figure": ""}
    for folder, text in (
        ("chapters", summary),
        ("ledger", {"A2": {**row, "chapter": "layerwise_barriers", "profile": "cifar", "run": "plain"}}),
    ):
        at = tmp_path / "results" / folder / "cifar"
        at.mkdir(parents=True)
        (at / "layerwise_barriers@plain.json").write_text(json.dumps(text))
    (tmp_path / "results" / "chapters" / "cifar" / "layerwise_barriers.json").write_text(json.dumps(summary))
    own, beside = status.status_page(chapters).strip().splitlines()[-2:]
    assert own == "| [layerwise barriers](layerwise_barriers.ipynb) | cifar | 60 | – | – | 2026-11-29 |"
    assert beside == "| [layerwise barriers](layerwise_barriers.ipynb) | cifar, plain | 60 | 2 | 1 | 2026-11-29 |"
