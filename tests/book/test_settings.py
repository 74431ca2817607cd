"""Chapter parameters: strictly checked names and values, strings from papermill accepted."""

import subprocess
import sys
from pathlib import Path

import pytest

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.root import ROOT

PROFILES = {"digits": {**lmc.FORKING["digits"]}}
ROBUSTNESS = {"digits": {**lmc.ROBUSTNESS["digits"]}}


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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"beta": 0.01, "clients": 20, "averaged": "top:3"}, ((0.01,), 20, ("top:3",), ("iid", "dirichlet"))),
        ({"beta": "[1, 0.1]", "averaged": "['body', 'fc + body.0']", "split": "shards"},
         ((1, 0.1), 20, ("body", "fc + body.0"), ("shards",))),
    ],
)  # fmt: skip
def test_parameters_of_federated_runs_come_as_papermill_hands_them_over(given, expected):
    own = lmc.parameters(given, {"digits": lmc.FEDERATED["digits"]})
    assert (own.beta, own.clients, own.averaged, own.split) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"beta": 0}, "beta=0: must be greater than 0"),
        ({"beta": "nan"}, "beta='nan': must be a list of numbers"),
        ({"beta": float("nan")}, "beta=nan: must be a finite number"),
        ({"beta": [1, 1]}, "must not hold a number twice"),
        ({"split": "random"}, "split='random': must be 'iid', 'dirichlet', 'shards' or 'same'"),
        ({"averaged": ["head", "head"]}, "must not hold a name twice"),
        ({"averaged": "[head"}, "must be a name or a list of names"),
        ({"clients": 1}, "clients=1: must be greater than or equal to 2"),
        ({"rounds": 0}, "rounds=0: must be greater than or equal to 1"),
        ({"momentum": 1}, "momentum=1: must be less than 1"),
    ],
)
def test_bad_parameters_of_federated_runs_are_one_line(given, said):
    with pytest.raises(LmcError) as caught:
        lmc.parameters(given, {"digits": lmc.FEDERATED["digits"]})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sigma": [0.5, -0.1]}, r"sigma=\[0\.5, -0\.1\]: must be greater than or equal to 0"),
        ({"sigma": [float("nan")]}, r"sigma=\[nan\]: must be a finite number"),
        ({"sigma": []}, r"sigma=\[\]: "),
        ({"sigma": [0.5, 0.5]}, "must not hold a number twice"),
        ({"sigma": "half"}, "must be a list of numbers such as"),
        ({"draws": 1}, "draws=1: must be greater than or equal to 2"),
        ({"mlp_epochs": 0}, "mlp_epochs=0: must be greater than or equal to 1"),
        ({"transformer_lr": 0}, "transformer_lr=0: must be greater than 0"),
        ({"examples": 5}, "examples=5: unknown parameter"),
    ],
)
def test_steps_that_cannot_be_taken_are_refused(given, said):
    with pytest.raises(LmcError, match=said) as caught:
        lmc.parameters(given, ROBUSTNESS)
    assert "\n" not in str(caught.value)


def test_lengths_of_steps_come_as_a_string_too():
    assert lmc.parameters({"sigma": "[0, 0.5]"}, ROBUSTNESS).sigma == (0, 0.5)


@pytest.mark.parametrize("name", lmc.ROBUSTNESS)
def test_robustness_looks_at_the_networks_of_the_layer_chapter(name):
    """So that none is trained for it."""
    own, layers = (lmc.parameters({"profile": name}, profiles) for profiles in (lmc.ROBUSTNESS, lmc.LAYERS))
    expected = lmc.varied(lmc.layer_specs(layers), fork_epochs=layers.fork_epochs[:1])
    assert lmc.varied(lmc.layer_specs(own), fork_epochs=own.fork_epochs[:1]) == expected
    assert {0.5, 1} <= set(own.sigma), "what the verdicts need"


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


@pytest.fixture
def notebook():
    """Cells of a live notebook, run one after the other; what the last one said."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()  # not the one that a kernel has, of which there is one a process
    shell.user_ns["lmc"], shell.user_ns["PROFILES"] = lmc, PROFILES

    def run(cell):
        return shell.run_cell(cell, store_history=True).result

    run.space = shell.user_ns
    return run


PARAMETERS = 'profile: str = "digits"\nseed: int = {seed}'
SETTINGS = "settings = lmc.parameters(globals(), profiles=PROFILES)\nsettings.seed"


def test_cells_of_a_live_notebook_run_again_and_again(notebook):
    notebook(PARAMETERS.format(seed=None))
    assert notebook(SETTINGS) == 0
    notebook("measured = [1, 2]\nfirst = settings.lr")  # variables of later cells are no parameters
    notebook("width = 3")
    assert notebook(SETTINGS) == 0
    notebook("seed = 2")
    assert notebook(SETTINGS) == 2
    for seed in (3, 4):
        notebook(PARAMETERS.format(seed=seed))
        assert notebook(SETTINGS) == seed
    notebook("profile: str = 'digits'")  # the reader has taken the line out again
    assert notebook(SETTINGS) == 0


def test_what_papermill_puts_in_counts(notebook):
    notebook(PARAMETERS.format(seed=3) + "\nlr: float = 0.3")
    notebook("seed = 5")
    assert notebook(SETTINGS) == 5
    assert notebook.space["settings"].lr == 0.3


@pytest.mark.filterwarnings("ignore")  # IPython's own, as it shows an error
def test_no_cell_runs_on_settings_from_before_a_refusal(notebook):
    notebook(PARAMETERS.format(seed=3))
    notebook(SETTINGS)
    notebook(PARAMETERS.format(seed=3) + "\nsed: int = 4")
    notebook(SETTINGS)
    assert "settings" not in notebook.space
    notebook(PARAMETERS.format(seed=4))  # the wrong name is still a variable, but no longer a parameter
    assert notebook(SETTINGS) == 4


def test_forks_are_said_where_the_reader_chose_them():
    assert lmc.parameters({"profile": "smoke"}, lmc.FORKING).other_forks == ""
    assert lmc.parameters({"profile": "smoke", "fork_epochs": [0, 0.5]}, lmc.FORKING).other_forks == "forks 0, 0.5"
