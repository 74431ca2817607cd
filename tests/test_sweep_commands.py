"""The command `sweep`, and the two that take a store elsewhere."""

import json
import signal
import subprocess
import sys

import pandas as pd
import pytest
from tagged import bounded, until
from typer.testing import CliRunner

from lmclib import cli
from lmclib.root import ROOT

EXAMPLE = ROOT / "tests" / "book" / "rates.yaml"
# long enough that it can be stopped in the middle
LONG = {
    "fork": {"model": "mlp-8", "epochs": 20, "fork_epochs": [0], "milestones": [2]},
    "grid": {"lr": [0.1, 0.05]},
    "measure": {"name": "barrier_curve", "options": {"alphas": 3}},
}


def invoke(*args):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args], prog_name="lmclib")


def test_a_dry_run_says_what_there_is_to_do_and_does_nothing(tmp_path):
    done = invoke("sweep", EXAMPLE, "--dry-run", "--store", tmp_path / "store")
    assert done.exit_code == 0
    assert "4 points, 0 of them measured already" in done.stdout
    assert "20 runs, 0 of them remembered" in done.stdout
    assert "20 networks to train" in done.stdout
    assert not (tmp_path / "store").exists()


def test_a_sweep_writes_its_table_and_its_store_can_be_taken_elsewhere(tmp_path):
    done = invoke("sweep", EXAMPLE, "--store", tmp_path / "store", "--output", tmp_path / "t.csv")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.endswith(f"24 rows of 4 points are in {tmp_path / 't.csv'}\n")
    assert len(pd.read_csv(tmp_path / "t.csv")) == 24
    assert invoke("store", "export", tmp_path / "runs.tar", "--store", tmp_path / "store").exit_code == 0
    done = invoke("store", "import", tmp_path / "runs.tar", "--store", tmp_path / "there")
    assert done.stdout.endswith("files are new, 0 were there\n")
    done = invoke("sweep", EXAMPLE, "--store", tmp_path / "there")
    assert done.stdout.startswith("4 points, 4 of them measured already; 20 runs, 20 of them remembered\n")
    assert "and 4 more rows: `--output FILE.csv` writes them all" in done.stdout


def test_what_is_wrong_is_said_line_by_line(tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps({**LONG, "grid": {"lr": [0.1, -1], "seed": [0.5]}}))
    done = invoke("sweep", spec)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "grid.lr[1]: must be greater than 0",
        "grid.seed[0]: must be a valid integer, got a number with a fractional part",
    ]
    assert invoke("sweep", EXAMPLE, "--scheduler", "tcp://a:1", "--scheduler-file", "b").exit_code == 2
    done = invoke("sweep", EXAMPLE, "--output", "t.txt")
    assert (done.exit_code, done.stdout) == (1, "")
    assert (
        invoke("sweep", EXAMPLE, "--notebooks", tmp_path).stderr
        == "notebooks: are for sweeps of a chapter; this one has a fork\n"
    )


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The table of a sweep that nobody stopped."""
    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "spec.yaml").write_text(json.dumps(LONG))
    done = invoke("sweep", folder / "spec.yaml", "--store", folder / "store", "--output", folder / "t.csv")
    assert done.exit_code == 0, done.stderr
    return (folder / "t.csv").read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_stopped_goes_on_from_there(workers, unbroken, tmp_path):
    spec, store = tmp_path / "spec.yaml", tmp_path / "store"
    spec.write_text(json.dumps(LONG))
    command = [sys.executable, "-m", "lmclib", "sweep", str(spec), "--store", str(store), "--workers", str(workers)]
    # whoever started these tests may have them ignore an interrupt, which a child would take over
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    heeds = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with bounded(subprocess.Popen(command, cwd=ROOT, **pipes, **heeds), 240) as process:
        until(lambda: len(list(store.rglob("*.safetensors"))) > 6, 200, "it is in the middle")
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate()
    assert process.returncode == 3, errors
    assert "stopped; what was done is stored: run the same command again to go on" in errors
    assert "Traceback" not in errors
    assert "0 of them measured already" in said
    before = {path for path in store.rglob("*.safetensors") if not path.name.startswith("resume")}
    done = invoke("sweep", spec, "--store", store, "--output", tmp_path / "stopped.csv")
    assert done.exit_code == 0, done.stderr
    assert all(path.exists() for path in before)
    assert (tmp_path / "stopped.csv").read_bytes() == unbroken
