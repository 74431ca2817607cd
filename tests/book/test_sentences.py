"""Numbers in text: filled in, checked for what is missing, and never raw in JupyterLab."""

import json
import re

import numpy as np
import pytest

from lmclib.book.sentences import say
from lmclib.errors import LmcError
from lmclib.root import ROOT

CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))


def test_numbers_are_filled_in_and_latex_stays():
    said = say(
        r"$\frac{a}{b}$, $E_{ij}$: {a:.1%} of {name}, {big:,}; {a:.2f}.", a=np.float64(0.125), name="x", big=1440
    )
    assert said.data == r"$\frac{a}{b}$, $E_{ij}$: 12.5% of x, 1,440; 0.12."
    assert say(r"Nothing in $\mathbb{R}$").data == r"Nothing in $\mathbb{R}$"


@pytest.mark.parametrize("value", [float("nan"), np.float64("inf")])
def test_what_is_not_a_number_is_told_as_a_dash(value):
    assert say("A spread of {s:.2f}.", s=value).data == "A spread of –."


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("{height:.2f}", {"height": 1.0, "width": 2.0}, "no place for width"),
        ("{hight:.2f}", {}, r"no value for \{hight:.2f\}"),
    ],
)
def test_names_that_do_not_meet_are_an_error(text, values, message):
    with pytest.raises(LmcError, match=message):
        say(text, **values)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_text_of_a_chapter_needs_a_page_to_be_read(path):
    """These roles are raw in JupyterLab; captions, which it does not show, may have them."""
    for cell in json.loads(path.read_text())["cells"]:
        assert not re.search(r"\{(glue:|numref)", "".join(cell["source"])), cell["id"]
