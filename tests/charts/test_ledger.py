"""The ledger's cards: what they say and show, and that nothing in them runs."""

import base64
import re
from io import BytesIO

import pandas as pd

from lmclib.charts.ledger import as_html
from lmclib.claims.verdicts import Part

COMMON = {
    "paper": "A paper",
    "link": "https://example.org",
    "where": "fig. 1",
    "says": "It holds.",
    "rule": "r",
    "objection": "o.",
}
PLACE = {"scale": "toy", "fit": "", "chapter": "toy_barriers", "figure": "fig-x"}


def page(*rows):
    return as_html(pd.DataFrame([{**COMMON, **PLACE, **row} for row in rows]))


def row(verdict="holds", profile="digits", **part):
    one = Part(**{"name": "loss", "values": (1.0, 2.0, 3.0), "unit": "nats", "threshold": 0.0, **part})
    return {"claim": "A1", "verdict": verdict, "profile": profile, "parts": [one]}


def test_a_card_says_everything_that_decides():
    shown = page(row(rival="a coin", control=(0.0, 0.1, 0.2), threshold=0.5))
    for said in (
        "2 [0.314, 3.69], n = 3; nats",
        "claimed: above 0.5",
        "Control, a coin: 0.1 [",
        "id='claim-A1'",
        "toy_barriers.html#fig-x",
    ):
        assert said in shown
    undecided = page(row("undecided"))
    assert "same verdict for thresholds" in undecided


def test_every_seed_is_a_dot_within_the_strip():
    shown = page(row(threshold=9.0))
    dots = [float(x) for x in re.findall(r"<circle cx='([\d.]+)'", shown)]
    (line,) = (float(x) for x in re.findall(r"<line x1='([\d.]+)'", shown))
    assert len(dots) == 3
    assert sorted(dots) == dots
    assert 0 <= min(dots) < max(dots) < line <= 220


def test_scales_share_a_card():
    shown = page(row(), row("fails", "cifar"), {"claim": "B1", "verdict": "not run", "profile": "", "parts": []})
    assert shown.count("<section") == 2
    assert "data-verdict='holds fails' data-profile='digits cifar'" in shown
    assert "<option value='cifar'>real images</option>" in shown


def test_one_seed_has_no_interval_and_says_so():
    shown = page(row(values=(1.0,)))
    assert "1, n = 1; nats" in shown
    assert "inf" not in shown
    assert "nan" not in shown
    assert "1, exact; nats" in page(row(values=(1.0,), exact=True))
    beside = page(row(values=(1.0,), rival="chance", control=(0.5,)))
    assert "Control, chance: 0.5<" in beside
    assert "inf" not in beside


def test_what_was_read_is_escaped():
    hostile = "<script>alert(1)</script>'"
    one = row(name=hostile, unit=hostile, rival=hostile, control=(0.0, 0.1, 0.2))
    shown = page({**one, **dict.fromkeys((*COMMON, "scale", "fit", "chapter", "figure"), hostile)})
    assert "alert(1)<" not in shown.replace("&lt;", "")
    assert shown.count("<script") == 1


def test_the_ledger_can_be_taken_along():
    parts = pd.DataFrame({"claim": ["A1"], "part": ["<b>"], "mean": [1.5]})
    shown = as_html(pd.DataFrame([{**COMMON, **PLACE, **row()}]), parts)
    found = dict(re.findall(r"download='ledger\.(\w+)' href='data:[^,]*,([^']*)'", shown))
    assert pd.read_csv(BytesIO(base64.b64decode(found["csv"]))).equals(parts)
    assert pd.read_json(BytesIO(base64.b64decode(found["json"]))).equals(parts)
