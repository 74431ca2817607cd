"""One quantity, one value: what appears in several places of the built book is the same number in each of them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmclib.book.ledger import rows
from lmclib.charts.findings import SCALES
from lmclib.files import read_json

ROUNDED = 6e-5  # charts carry four digits


class Book:
    """What a built book says, in numbers.

    Args:
        folder: with `html/`, `executed/` and `store/`.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def tables(self, chapter: str, *columns: str) -> list[pd.DataFrame]:
        """The data of a page's charts that have these columns, in the order of the charts."""
        text, found = self.page(chapter), []
        for call in re.finditer(r'lmcChart\("#[^"]+",', text):
            spec = json.JSONDecoder().raw_decode(text[call.end() :])[0]
            found += [rows for rows in spec.get("datasets", {}).values() if set(columns) <= set(rows[0])]
        assert found, f"{chapter}: no chart has {columns}"
        return [pd.DataFrame(rows) for rows in found]

    def told(self, chapter: str, words: str) -> str:
        """The number in a sentence that a chapter fills in, with as many digits as it has there.

        Args:
            chapter: its name.
            words: what stands before the number.
        """
        (notebook,) = (self.folder / "executed").glob(f"{chapter}.*.ipynb")
        outputs = [output for cell in read_json(notebook)["cells"] for output in cell.get("outputs", [])]
        text = " ".join("".join(output.get("data", {}).get("text/markdown", "")) for output in outputs)
        (number,) = re.findall(rf"{words} (-?[\d.]+\d)", " ".join(text.split()))
        return number

    def parts(self, chapter: str, claim: str) -> dict[str, Mapping]:
        """The parts of a row of the ledger, by name."""
        row = read_json(self.folder / "store" / "ledger" / "smoke" / f"{chapter}.json")[claim]
        return {part["name"]: part for part in row["parts"]}

    def page(self, chapter: str) -> str:
        return (self.folder / "html" / "book" / f"{chapter}.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def said(book) -> Book:
    return Book(book)


def curves_of_the_first_seed(said: Book) -> dict:
    def curves(chapter):
        table = said.tables(chapter, "alpha", "treatment", "loss_barrier")[-1].query("seed == 0")
        return table.sort_values(["treatment", "fork", "epoch", "alpha"]).error_barrier

    return {chapter: curves(chapter) for chapter in ("preface", "resnet_forking")}


def curves_of_the_parents(said: Book) -> dict:
    def curves(chapter):
        walks = said.tables(chapter, "line", "split")[-1].query("line == 'parent'")
        return walks.sort_values(["seed", "epoch"]).loss

    return {chapter: curves(chapter) for chapter in ("preface", "resnet_forking")}


def error_barriers_by_fork(said: Book) -> dict:
    """Of the first seed at the end of training: highest points of curves, points of the figure over forks, heights of kinds."""
    curves = {chapter: said.tables(chapter, "alpha", "treatment")[-1] for chapter in ("preface", "resnet_forking")}
    ends = {
        f"fork figure, {chapter}": table[
            (table.seed == 0) & (table.treatment == "interpolated") & (table.epoch == table.epoch.max())
        ]
        .groupby("fork")
        .error_barrier.max()
        for chapter, table in curves.items()
    }
    points = said.tables("resnet_forking", "error_barrier", "split")[-1]
    points = points.query("seed == 0 and split == 'train' and treatment == 'interpolated'")
    kinds = said.tables("resnet_forking", "panel", "error_barrier")[-1].groupby("panel").error_barrier.max()
    kinds.index = kinds.index.str.removeprefix("fork ")
    points = points.set_index("fork").error_barrier
    order = sorted(points.index, key=float)
    return {name: series[order] for name, series in {**ends, "over forks": points, "kinds": kinds}.items()}


def first_forks_error_barrier(said: Book) -> dict:
    points = said.tables("resnet_forking", "error_barrier", "split")[-1]
    points = points.query("fork == '0' and split == 'train' and treatment == 'interpolated'")
    (separated,) = (
        part
        for name, part in said.parts("resnet_forking", "F1").items()
        if name.startswith("parted at initialisation") and "interpolated" in name
    )
    return {
        "over forks": points.error_barrier.mean(),
        "prose": said.told("resnet_forking", "At the first fork the error barrier is"),
        "ledger": np.mean(separated["values"]),
    }


def full_barrier_of_the_first_seed(said: Book) -> dict:
    """Siblings of the first fork without normalisation, end of training, all training images, α = ½."""
    layers = said.tables("layerwise_barriers", "baseline", "loss_barrier")[-1]
    layers = layers.query("case == 'siblings' and fork == '0' and split == 'train' and baseline == 'models'")
    whole = layers[(layers.layer == "network") & (layers.epoch == layers.epoch.max())].loss_barrier
    stairs = said.tables("layerwise_barriers", "order", "n_layers")[-1].query("case == 'siblings'")
    last = stairs[(stairs.epoch == stairs.epoch.max()) & (stairs.n_layers == stairs.n_layers.max())]
    forks = said.tables("hessian_predictions", "case", "what", "predicted")[-1]
    actual = forks.query("case == 'weight decay' and what == 'actual' and fork == '0' and seed == 0").predicted
    *_, agreement = (
        table
        for table in said.tables("hessian_predictions", "actual", "method", "what")
        if "whole network" in set(table.what)
    )
    agreement = agreement.query("what == 'whole network' and fork == '0'").actual
    assert len(last) > 2  # several orders end alike
    return {
        "heatmap, into 1 and 2": whole.tolist(),
        "ends of staircases": [last.loss_barrier.min(), last.loss_barrier.max()],
        "beside predictions": [actual.item()] * 2,
        "predicted against actual": [actual.item() if np.isclose(agreement, actual.item()).any() else np.nan] * 2,
    }


def full_barrier_over_seeds(said: Book) -> dict:
    forks = said.tables("hessian_predictions", "case", "what", "predicted")[-1]
    actual = forks.query("case == 'weight decay' and what == 'actual' and fork == '0'").predicted
    prose = said.told("layerwise_barriers", "Between siblings the full barrier is")
    return {"beside predictions": actual.mean(), "layers, prose": prose}


def full_barrier_on_some_images(said: Book) -> dict:
    """The same pair on the images that energies are measured on: another number, and one only."""
    beyond = said.tables("beyond_second_order", "actual", "method")[-1]
    beyond = beyond.query("what == 'no normalisation' and method == 'published' and fork == '0'").actual
    layers = said.tables("hessian_predictions", "energy", "barrier")[-1]
    assert len(layers)
    measured = measured_sets(said)
    full = measured["1" * len(next(iter(measured)))]
    return {
        "energy matrix": full,
        "beyond second order": full if np.isclose(beyond, full, atol=ROUNDED).any() else np.nan,
    }


def single_layers_on_some_images(said: Book) -> dict:
    measured = measured_sets(said)
    layers = said.tables("hessian_predictions", "energy", "barrier")[-1].query("fork == '0'")
    last = layers[layers.epoch == layers.epoch.max()].barrier.tolist()
    single = [measured["".join(str(int(i == k)) for i in range(len(last)))] for k in range(len(last))]
    return {"triptych": last, "energy matrix": single}


def measured_sets(said: Book) -> dict[str, float]:
    """What the page of energies knows of every set of layers."""
    text = said.page("hessian_predictions")
    at = text.rindex('"name":"measured","value":') + len('"name":"measured","value":')  # its own scale is the last tab
    return json.JSONDecoder().raw_decode(text[at:])[0]


@pytest.mark.parametrize(
    "quantity",
    [
        curves_of_the_first_seed,
        curves_of_the_parents,
        error_barriers_by_fork,
        first_forks_error_barrier,
        full_barrier_of_the_first_seed,
        full_barrier_over_seeds,
        full_barrier_on_some_images,
        single_layers_on_some_images,
    ],
)
def test_a_quantity_is_the_same_number_everywhere(quantity, said):
    (first, expected), *others = quantity(said).items()
    expected = np.atleast_1d(np.asarray(expected, dtype=float))
    assert others
    for name, value in others:
        digits = len(value.partition(".")[2]) if isinstance(value, str) else None
        close = ROUNDED if digits is None else 0.51 * 10**-digits
        found = np.atleast_1d(np.asarray(value, dtype=float))
        assert found == pytest.approx(expected, abs=close), f"{first} and {name}"


def test_the_ledger_says_of_a_claim_what_its_chapter_says(said):
    def cards(chapter):
        found = re.findall(r"<section class='lmc-claim' id='claim-(\w+)'.*?</section>", said.page(chapter), re.DOTALL)
        blocks = re.findall(r"<section class='lmc-claim'.*?</section>", said.page(chapter), re.DOTALL)
        return {
            claim: re.findall(r"<tbody>.*?</tbody>", block, re.DOTALL)
            for claim, block in zip(found, blocks, strict=True)
        }

    ledger, seen = cards("ledger"), 0
    for path in sorted((said.folder / "html" / "book").glob("*.html")):
        if path.stem != "ledger":
            for claim, tables in cards(path.stem).items():
                assert set(tables) <= set(ledger[claim]), f"{path.stem}: {claim}"
                seen += 1
    assert seen > 15


def test_the_first_page_says_what_the_ledger_says(said):
    found = re.findall(r"<strong>(\d+)% of error between them</strong>", said.page("preface"))
    own = {row["profile"]: row for row in rows(said.folder / "store", "smoke") if row["claim"] == "F1"}
    largest = next(own[scale] for scale in SCALES if scale in own)
    (part,) = (
        part
        for part in largest["parts"]
        if part["name"].startswith("parted at initialisation") and "interpolated" in part["name"]
    )
    assert [float(value) for value in found] == [round(100 * float(np.mean(part["values"])))]


def test_no_undefined_number_is_printed(said):
    for notebook in sorted((said.folder / "executed").glob("*.ipynb")):
        for cell in read_json(notebook)["cells"]:
            for output in cell.get("outputs", []):
                for kind in ("text/html", "text/markdown"):
                    text = "".join(output.get("data", {}).get(kind, ""))
                    text = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
                    assert not (found := re.search(r".{0,80}\b(nan|NaN|inf)\b.{0,20}", text)), (
                        f"{notebook.name}: {found[0]}"
                    )
