"""Chapter parameters: strictly checked names and values, strings from papermill accepted."""

import subprocess
import sys
from pathlib import Path

import pytest

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.root import ROOT

PROFILES = {"digits": {**lmc.FORKING["digits"]}}


@pytest.mark.parametrize("given", ["[0, 0.5, 2]", [0, 0.5, 2], (0, 0.5, 2)])
def test_lists_come_as_strings_or_lists(given):
    assert lmc.parameters({"fork_epochs": given}, PROFILES).fork_epochs == (0, 0.5, 2)


def test_none_is_the_profiles_own_value():
    settings = lmc.parameters({"seed": None, "lr": "0.2"}, PROFILES)
    assert (settings.seed, settings.lr) == (0, 0.2)
    assert "given" in settings._repr_html_()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fork_epoch": 1}, "fork_epoch=1: unknown parameter; this chapter has profile, store, model"),
        ({"profile": "huge"}, "profile='huge': must be one of 'digits'"),
        ({"siblings": 0}, "siblings=0: must be greater than or equal to 1"),
        ({"fork_epochs": [-1]}, r"fork_epochs=\[-1\]: must be greater than or equal to 0"),
        ({"fork_epochs": [0, 12]}, "must be below the parent's length, epochs=12"),
        ({"fork_epochs": [1, 1]}, "must not hold a number twice"),
        ({"fork_epochs": "one"}, "must be a list of numbers such as"),
        ({"seed": "a"}, "seed='a': must be a valid integer"),
        ({"lr": 0}, "lr=0: must be greater than 0"),
        ({"model": ""}, "model='': "),
        ({"precision": "half"}, "precision='half': must be 'float32' or 'bf16'"),
        ({"store": "pyproject.toml"}, "store='pyproject.toml': is a file; must be a folder"),
    ],
)
def test_bad_parameters_are_named_in_one_line(given, said, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(LmcError, match=said) as caught:
        lmc.parameters(given, PROFILES)
    assert "\n" not in str(caught.value)


def test_papermill_stops_before_any_compute(tmp_path):
    command = [
        sys.executable,
        "-m",
        "papermill",
        "book/resnet_forking.ipynb",
        str(tmp_path / "out.ipynb"),
        "--no-progress-bar",
    ]
    store = tmp_path / "store"
    done = subprocess.run(
        [*command, "-p", "profile", "smoke", "-p", "store", str(store), "-p", "fork_epoch", "3"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "fork_epoch=3: unknown parameter" in done.stderr.strip().splitlines()[-1]
    assert not store.exists()


def test_a_chapter_started_in_its_own_folder_means_the_root(monkeypatch):
    """As in JupyterLab: its paths are those of a chapter that is built."""
    monkeypatch.chdir(ROOT / "book")
    lmc.parameters({"profile": "smoke"}, lmc.FORKING)
    assert Path.cwd() == ROOT / "book"  # and leaves it where it is
