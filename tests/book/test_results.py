"""Paper scale without a GPU: measuring cells as scripts, slices, estimates, dry runs, packing, tabs."""

import json
import os
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
from torch import nn

import lmclib as lmc
from lmclib.book import measuring, profiles, results
from lmclib.book.cost import Forward, Rates, forward_cost
from lmclib.book.estimates import estimate
from lmclib.book.measuring import measure, measure_for, measuring_chapters
from lmclib.charts.tabs import Tabs
from lmclib.errors import LmcError
from lmclib.files import is_whole
from lmclib.root import ROOT
from lmclib.runs.fork import fork_all
from lmclib.runs.plan import Plan
from lmclib.store.dry_run import DryRun, NotRun, dry_run
from lmclib.store.store import Store
from lmclib.training.recipe import Recipe

CHAPTERS = ("beyond_second_order", "deep_linear", "hessian_predictions", "layerwise_barriers", "resnet_forking")
TRAINING = [name for name in CHAPTERS if name != "deep_linear"]
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
        ("forking", {}, "chapter='forking': must be one of beyond_second_order, deep_linear"),
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


def test_relative_paths_of_a_slice_are_meant_from_the_root(tmp_path, monkeypatch):
    """Also where the process was started elsewhere: on the slice's own command line they would be meant from there."""
    elsewhere = tmp_path / "some" / "where" / "else"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    store = os.path.relpath(tmp_path / "runs", ROOT)
    assert measure_for("resnet_forking", 10, {"profile": "smoke", "model": "mlp-4", "store": store})
    assert list((tmp_path / "runs").glob("*/table.*.parquet"))
    assert not list(elsewhere.iterdir())


def test_an_error_in_a_slice_is_one_line_and_an_exit_status(tmp_path):
    command = [sys.executable, "-m", "lmclib", "measure", "resnet_forking", "-p", "lr", "fast"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "lr='fast': must be a valid number" in done.stderr
    assert "Traceback" not in done.stderr


def test_families_train_when_first_asked(tmp_path):
    (family,) = fork_all([SPEC], tmp_path, progress=False)
    assert not list(tmp_path.rglob("*.safetensors"))
    family.child(0, 0)
    assert Plan(family).missing == set()


def test_a_dry_run_trains_measures_and_writes_nothing(tmp_path):
    store = Store(tmp_path / "none")
    with dry_run():
        (family,) = fork_all([SPEC], store)
        with pytest.raises(NotRun, match="mlp-8 on digits: not trained yet"):
            family.child(0, 0)
        with pytest.raises(NotRun, match="barrier_curve: not measured yet"):
            lmc.barrier_evolution([family], 3, progress=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("chapter", TRAINING)
def test_every_chapter_can_be_estimated_at_paper_scale(chapter, tmp_path):
    plan = estimate(chapter, {"profile": "paper", "store": str(tmp_path / "none")})
    assert not (tmp_path / "none").exists()
    assert ("resnet20", "CIFAR-10") in plan.epochs
    training, measuring = plan.minutes()
    assert training > 10
    assert measuring > 1
    assert "minutes of one H100" in str(plan)
    assert 0 < plan.longest_minutes() < 8, "a slice is too short for it"


@pytest.mark.parametrize("chapter", TRAINING)
def test_given_data_and_precision_are_those_of_all_networks(chapter, tmp_path, monkeypatch):
    met, meet = [], DryRun.meet
    monkeypatch.setattr(DryRun, "meet", lambda self, family: (met.append(family.spec), meet(self, family)))
    estimate(chapter, {"profile": "smoke", "data": "cifar10", "precision": "bf16", "store": str(tmp_path)})
    assert {(spec.data, spec.precision) for spec in met} == {("cifar10", "bf16")}


def test_a_plan_counts_what_is_missing(tmp_path):
    given = {"profile": "smoke", "model": "mlp-4", "store": str(tmp_path)}
    plan = estimate("resnet_forking", given)
    # three seeds, three forks, two children of two epochs less where they fork, and a parent to the last fork, one epoch
    assert plan.networks == 3 * (3 * 2 + 1)
    forks = (0, 22 / 44, 1)
    assert plan.epochs["mlp-4", "digits"] == pytest.approx(3 * (sum(2 * (2 - fork) for fork in forks) + 1), abs=0.1)
    measure("resnet_forking", given)
    done = estimate("resnet_forking", given)
    assert (done.networks, sum(done.epochs.values()), sum(done.passes.values())) == (0, 0, 0)


def test_a_plan_counts_passes(tmp_path):
    """11 points of 1,437 images: every fork, seed and epoch once on interpolated statistics, and so on."""
    plan = estimate(
        "resnet_forking", {"profile": "smoke", "model": "mlp-4", "store": str(tmp_path), "fork_epochs": [0]}
    )
    train, test = 11 * 1437, 11 * 360
    evolution = 3 * 2 * train + 2 * (train + 11 * 1437)  # two epochs of three seeds; recomputed, of the first seed
    final = 3 * (train + (train + 11 * 1437) + test + (test + 11 * 1437))
    already = 3 * train + (train + 11 * 1437)  # the last epochs of the evolution
    assert plan.passes["mlp-4", "digits"] == evolution + final - already
    assert plan.longest["mlp-4", "digits"] == train + 11 * 1437


def test_the_price_of_a_forward_pass():
    conv = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 25, 2))
    forward = forward_cost(conv, (3, 5, 5))
    assert forward.flops == 2 * (25 * 4 * 27 + 100 * 2)
    assert forward.outputs == 100 + 2
    assert conv.training
    slow_memory, slow_units = Rates("", 1e9, 1e9, 1), Rates("", 1, 1, 1e9)
    assert Forward(6, 5).step_seconds(slow_memory) == 2 * 10 * 5
    assert Forward(6, 5).step_seconds(slow_units) == 18
    assert Forward(6, 5).pass_seconds(slow_memory) == 4 * 5 * 5


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
    missing = lmc.paper_results("resnet_forking", laptop)
    assert missing.tables is None
    assert missing.said.startswith("Not run yet. 21 networks to train (")
    with pytest.raises(LmcError, match="is not finished"):
        results.pack("resnet_forking", {}, runs)
    own = {"fork_epochs": "[0, 1]"}  # a part of the profile's forks
    measured = measure("resnet_forking", {"profile": "paper", "store": str(runs), **own})
    summary = results.pack("resnet_forking", own, runs)
    assert (summary["data"], summary["seeds"], summary["given"]) == (["digits"], [0, 1, 2], own)
    assert summary["training_seconds"] + summary["measuring_seconds"] >= 0
    for folder in (path for path in committed.iterdir() if path.is_dir()):
        signed = json.loads((folder / "provenance.json").read_text())
        here = {"hardware", "gpu", "packages", "commit", "date", "seconds"}
        assert here | {"code", "roots", "parts", "networks", "question"} == set(signed)
        assert not list(folder.glob("*.safetensors")), "checkpoints do not travel"
    found = lmc.paper_results("resnet_forking", laptop)
    pd.testing.assert_frame_equal(found.tables["final"], measured["final"])
    assert "mlp-4 on digits, 2 epochs; seeds 0 to 2; CPU" in found.said
    assert not laptop.exists()
    again = results.pack_all(runs)
    assert again["resnet_forking"].startswith("CPU")
    assert "is not finished" in again["layerwise_barriers"]


def test_results_that_would_grow_too_large_stay_as_they_are(committed, tmp_path, monkeypatch):
    measure("resnet_forking", {"profile": "paper", "store": str(tmp_path / "runs")})
    monkeypatch.setattr(results, "MOST_BYTES", 1000)
    with pytest.raises(LmcError, match=r"must be at most 0\.001 MB"):
        results.pack("resnet_forking", {}, tmp_path / "runs")
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


def test_tabs_hold_a_chart_or_a_price(book):
    page = (book / "html/book/resnet_forking.html").read_text()
    assert page.count('class="lmc-pane"') == 2
    assert "minutes of one H100" in page
    assert "make paper CHAPTER=resnet_forking" in page


def test_tabs_stand_one_below_the_other_in_a_live_notebook(monkeypatch, capsys):
    monkeypatch.delenv("LMC_STATIC", raising=False)
    shown = []
    monkeypatch.setattr("lmclib.charts.tabs.display", shown.append)
    shown_results = {"One": results.Results({"n": 3}, "here"), "Two": results.Results(None, "nowhere")}
    Tabs(lambda tables: f"chart {tables['n']}", shown_results)._ipython_display_()
    assert [getattr(item, "data", item) for item in shown] == ["**One.** here", "chart 3", "**Two.** nowhere"]


def test_side_by_side_processes_train_the_same_bits(tmp_path):
    """Networks in processes of one thread, against the same in this one with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = lmc.fork(SPEC, tmp_path / "here", progress=False)
    finally:
        torch.set_num_threads(threads)
    start = time.monotonic()
    there = lmc.fork(SPEC, tmp_path / "there", progress=False, workers=2)
    assert time.monotonic() - start < 300
    for fork in here.fork_epochs:
        for k in range(2):
            one, two = here.child(fork, k), there.child(fork, k)
            assert all(torch.equal(one[key], two[key]) for key in one)


def test_writing_beside_training_keeps_order_and_tells_what_failed(tmp_path):
    from lmclib.store.writer import BackgroundWriter

    store, seen = Store(tmp_path), []
    with BackgroundWriter(store) as writer:
        for i in range(50):
            writer.later(seen.append, i)
        writer.save("run", "a", {"w": torch.ones(3)})
    assert seen == list(range(50))
    assert store.load_state("run", "a")["w"].tolist() == [1, 1, 1]
    with pytest.raises(ZeroDivisionError), BackgroundWriter(store) as writer:
        writer.later(lambda: 1 / 0)


def test_chapters_are_found_from_the_root_only(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "BOOK", tmp_path)
    with pytest.raises(LmcError, match="chapter='resnet_forking'"):
        measure("resnet_forking", {})
