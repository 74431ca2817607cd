"""A chapter's measuring cells as a plain script, in slices."""

import os
import subprocess
import sys

import pytest

import lmclib as lmc
from lmclib.book import measuring
from lmclib.book.measuring import measure, measure_for, measuring_chapters
from lmclib.errors import LmcError
from lmclib.root import ROOT
from lmclib.store.dry_run import dry_run
from lmclib.training.recipe import Recipe

CHAPTERS = (
    "architectures",
    "beyond_second_order",
    "deep_linear",
    "federated",
    "hessian_predictions",
    "layerwise_barriers",
    "learning_rate",
    "resnet_forking",
    "robustness",
)
RECIPE = Recipe(epochs=2, batch_size=128, milestones=(1,))
SPEC = lmc.ForkSpec(model="mlp-8", fork_epochs=(0, 1), siblings=2, recipe=RECIPE)


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_every_chapter_that_trains_or_searches_has_measuring_cells():
    assert tuple(measuring_chapters()) == CHAPTERS


def test_measuring_needs_no_notebook_and_no_figures(tmp_path):
    """As on a bare GPU machine: without Jupyter, papermill, charts, widgets or Dask."""
    absent = "IPython ipykernel papermill nbformat jupyter_client altair ipywidgets anywidget myst_nb distributed yaml"
    code = (
        "import sys\n"
        f"for name in {absent.split()!r}: sys.modules[name] = None\n"
        "sys.argv = ['lmclib', 'measure', 'resnet_forking', '--in-one-go', '-p', 'profile', 'smoke', '-p', 'model', 'mlp-4',\n"
        f"            '-p', 'store', {str(tmp_path)!r}]\n"
        "from lmclib.__main__ import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(tmp_path.glob("*/table.*.parquet"))


def test_a_script_measures_what_the_chapter_shows(book):
    """The script finds all that the notebook computed, and computes nothing of its own."""
    for chapter in CHAPTERS:
        with dry_run() as found:
            measure(chapter, {"profile": "smoke", "store": str(book / "store")})
        assert found.tables


@pytest.mark.parametrize(
    ("chapter", "given", "said"),
    [
        ("forking", {}, "chapter='forking': must be one of architectures, beyond_second_order, deep_linear"),
        ("preface", {}, "chapter='preface': must be one of"),
        ("resnet_forking", {"profile": "smoke", "forks": [0]}, r"forks=\[0\]: unknown parameter"),
        ("resnet_forking", {"profile": "big"}, "profile='big': must be one of"),
    ],
)
def test_bad_chapters_and_parameters_are_one_line(chapter, given, said):
    with pytest.raises(LmcError, match=said):
        measure(chapter, given)


def test_a_killed_slice_is_gone_on_with(tmp_path):
    """Slices too short for the whole, then one that is long enough: nothing that was finished is done again."""
    given = {"profile": "smoke", "model": "mlp-4", "store": str(tmp_path)}
    with pytest.raises(LmcError, match="minutes=0: must be above 0"):
        measure_for("resnet_forking", 0, given)
    with pytest.raises(LmcError, match=r"minutes=0\.005: nothing was finished in that time; give it more"):
        measure_for("resnet_forking", 0.005, given)

    def finishes(minutes):
        try:
            return measure_for("resnet_forking", minutes, given)
        except LmcError as error:  # on a machine slower than ours
            assert "nothing was finished" in str(error)  # noqa: PT017
            return False

    minutes = 0.1
    while not (done := finishes(minutes)) and minutes < 2:
        minutes *= 2
    assert done
    before = files(tmp_path)
    assert measure_for("resnet_forking", 2, given)
    after = files(tmp_path)
    assert {
        path for path in after if path.suffix in (".parquet", ".safetensors") and after[path] != before.get(path)
    } == set()


def test_an_error_in_a_slice_is_one_line_and_an_exit_status(tmp_path):
    command = [sys.executable, "-m", "lmclib", "measure", "resnet_forking", "-p", "lr", "fast"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "lr='fast': must be a valid number" in done.stderr
    assert "Traceback" not in done.stderr


def test_chapters_are_found_from_the_root_only(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "BOOK", tmp_path)
    with pytest.raises(LmcError, match="chapter='resnet_forking'"):
        measure("resnet_forking", {})


def test_relative_paths_of_a_slice_are_meant_from_the_root(tmp_path, monkeypatch):
    """Also where the process was started elsewhere: on the slice's own command line they would be meant from there."""
    elsewhere = tmp_path / "some" / "where" / "else"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    store = os.path.relpath(tmp_path / "runs", ROOT)
    assert measure_for("resnet_forking", 10, {"profile": "smoke", "model": "mlp-4", "store": store})
    assert list((tmp_path / "runs").glob("*/table.*.parquet"))
    assert not list(elsewhere.iterdir())
