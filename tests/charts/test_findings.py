"""What the first page says follows from the ledger's rows."""

import pytest

import lmclib as lmc
from lmclib.book.settings import Settings
from lmclib.charts.findings import FINDINGS, findings


@pytest.fixture(autouse=True)
def no_committed_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("lmclib.store.results.RESULTS", str(tmp_path / "results"))


def write(store, claim, *parts, profile="digits"):
    lmc.judge(claim, parts, "toy", Settings({"profile": profile, "store": str(store)}, {"store"}), "resnet_forking")


def separated(mean, control, name="interpolated"):
    return lmc.Part(
        f"parted at initialisation, separated; {name} statistics", (mean, mean + 0.01), "error", 0.02, rival="r",
        control=(control, control),
    )  # fmt: skip


def test_a_finding_has_its_number_scale_and_place(tmp_path):
    write(tmp_path, "F1", separated(0.5, 0.001), separated(0.1, 0.001, "recomputed"))
    (said,) = findings(tmp_path, "digits")
    for part in (
        "**50% of error",
        "0.1%",
        "leaves 21%",
        "8×8 digits, 2 seeds",
        "(resnet_forking.ipynb)",
        "#claim-F1",
        "holds",
    ):
        assert part in said


def test_the_largest_scale_with_several_seeds_speaks(tmp_path):
    write(tmp_path, "F1", separated(0.5, 0.001), separated(0.1, 0.001, "recomputed"))
    write(tmp_path / "results", "F1", separated(0.7, 0.001), separated(0.1, 0.001, "recomputed"), profile="cifar")
    (said,) = findings(tmp_path, "digits")
    assert "70%" in said
    assert "real images" in said


def test_a_finding_says_its_controls_and_the_verdict_of_the_whole_claim(tmp_path):
    one, two = (
        lmc.Part(f"{what}; no normalisation", values, "shares", 1, "below", "r", (control, control))
        for what, values, control in (("median layer", (0.1, 0.12), 0.3), ("every layer", (4.0, 4.1), 7.0))
    )
    write(tmp_path, "A1", one, two)
    (said,) = findings(tmp_path, "digits")
    assert "make 0.3 in the median and 7 at worst" in said
    assert "#claim-A1): mixed" in said


def test_what_was_not_judged_is_not_said(tmp_path):
    assert findings(tmp_path, "digits") == []
    assert {finding.claim for finding in FINDINGS} <= set(lmc.CLAIMS)
