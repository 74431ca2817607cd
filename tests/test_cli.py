"""The command line: what it says, what it hands on, and with which status it ends."""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
import typer
from typer.testing import CliRunner

import lmclib as lmc
from lmclib import cli
from lmclib.book import committed, profiles
from lmclib.root import ROOT
from lmclib.store import roots
from lmclib.store.inventory import entries
from lmclib.store.store import Store
from lmclib.training.loop import train
from lmclib.training.recipe import Recipe

MODULE = [sys.executable, "-m", "lmclib"]
SPEC = lmc.ForkSpec(model="mlp-4", fork_epochs=(0,), recipe=Recipe(epochs=1, batch_size=512))


def invoke(*args, **kwargs):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args], prog_name="lmclib", **kwargs)


def process(*args, **kwargs):
    command = [str(arg) for arg in args]
    return subprocess.run(command, cwd=kwargs.pop("cwd", ROOT), capture_output=True, text=True, check=False, **kwargs)


def commands(group=None, path=("lmclib",)):
    """Every command with its words."""
    for name, command in (group or typer.main.get_command(cli.app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


@pytest.fixture
def store(tmp_path):
    """Two siblings, their parent and a barrier."""
    folder = tmp_path / "runs"
    families = lmc.fork_all([SPEC], folder, progress=False)
    lmc.over_pairs(lmc.sibling_pairs(families), lmc.barrier_curve, progress=False, alphas=3)
    return folder


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """No committed results yet, and a profile `paper` of a few seconds."""
    monkeypatch.setattr("lmclib.store.results.RESULTS", str(tmp_path / "committed"))
    monkeypatch.setitem(lmc.FORKING, "paper", {**lmc.FORKING["smoke"], "model": "mlp-4", "fork_epochs": (0, 1)})
    monkeypatch.setitem(profiles.BATCH_SIZE, "paper", 512)
    return tmp_path / "committed"


@pytest.fixture
def handed_on(monkeypatch):
    """What `measure` hands on, in place of measuring; a slice that is asked for 5 minutes is not finished."""
    seen = []

    def slice_of(chapter, minutes, given, workers):
        seen.append((chapter, minutes, dict(given)))
        return minutes != 5

    monkeypatch.setattr("lmclib.book.measuring.measure_for", slice_of)
    monkeypatch.setattr(
        "lmclib.book.measuring.measure", lambda chapter, given: seen.append((chapter, None, dict(given)))
    )
    return seen


def test_help_loads_nothing_heavy():
    absent = "torch torchvision numpy pandas pyarrow sympy safetensors sklearn matplotlib rich pygments"
    block = f"import sys\nfor name in {absent.split()!r}: sys.modules[name] = None\n"
    for page in ([], ["measure"], ["store"], ["store", "prune"]):
        run = f"sys.argv = ['lmclib', *{page!r}, '--help']\nfrom lmclib.cli import main\nmain()"
        done = process(sys.executable, "-c", block + run)
        assert done.returncode == 0, done.stderr
        assert "Usage: lmclib" in done.stdout


def test_the_entry_point_and_the_module_are_one_command():
    target = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["lmclib"]
    module, function = target.split(":")
    script = f"import sys\nfrom {module} import {function}\nsys.exit({function}())"  # as an installer writes it
    for args in (["--help"], ["plan"], ["store", "list", "--store", "nowhere"]):
        one, two = process(*MODULE, *args), process(sys.executable, "-c", script, *args)
        assert (one.returncode, one.stdout, one.stderr) == (two.returncode, two.stdout, two.stderr)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("lmclib measure res", ["resnet_forking"]),
        ("lmclib sto", ["store"]),
        ("lmclib store ", ["list", "show", "verify", "prune", "export", "import"]),
    ],
)
def test_a_shell_completes_commands_and_chapters(words, offered):
    asked = {"_LMCLIB_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert process(*MODULE, env={**os.environ, **asked}).stdout.split() == offered


def test_the_help_page_has_its_panels():
    shown = invoke("--help").stdout
    book, kept = shown.index(cli.BOOK), shown.index(cli.KEPT)
    place = {
        name: re.search(rf"^  {name} ", shown, re.M).start()
        for name in ("build", "measure", "plan", "results", "store")
    }
    assert book < place["build"] < place["measure"] < place["plan"] < kept < place["results"] < place["store"]


@pytest.mark.parametrize(("words", "command"), list(commands()))
def test_every_command_says_in_a_line_what_it_does_with_an_example_and_what_comes_out(words, command):
    summary, example, *rest = command.help.split("\n\n")
    assert "\n" not in summary
    assert summary.endswith((".", "figures."))
    assert example.startswith(f"Example: `{words}")
    assert any("Out come" in paragraph for paragraph in rest)
    typed = re.match(r"Example: `lmclib ([^`]*)`", example)[1]
    for option in re.findall(r"(?<= )--?[a-z-]+", typed):
        assert option in {name for param in command.params for name in param.opts}, f"{words} has no {option}"
    assert invoke(*words.split()[1:], "--help").exit_code == 0


@pytest.mark.parametrize(
    "args",
    [
        ["nothing"],
        ["build", "--profile", "big"],
        ["measure"],
        ["measure", "resnet_forking", "-p", "seed"],
        ["measure", "resnet_forking", "-p"],
        ["measure", "resnet_forking", "--minutes", "soon"],
        ["measure", "resnet_forking", "deep_linear"],
        ["results", "pack", "-p", "seed", "7"],
        ["store", "show"],
        ["store", "list", "--nothing"],
    ],
)
def test_wrong_use_ends_with_2(args):
    done = invoke(*args)
    assert done.exit_code == 2
    assert "Usage: lmclib" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["measure", "nowhere"], "chapter='nowhere': must be one of architectures, beyond_second_order, "),
        (["measure", "resnet_forking", "--minutes", "0"], "minutes=0: must be above 0"),
        (["measure", "resnet_forking", "--in-one-go", "-p", "lr", "fast"], "lr='fast': must be a valid number"),
        (["plan", "preface"], "chapter='preface': must be one of"),
        (["results", "pack", "nowhere"], "chapter='nowhere': must be one of"),
        (["store", "list", "--store", "nowhere"], "nowhere': is not there; must be a folder"),
    ],
)
def test_a_failure_is_one_line_and_ends_with_1(args, said):
    done = invoke(*args)
    assert done.exit_code == 1
    last = done.stderr.strip().splitlines()[-1]
    assert said in last
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_failure_of_a_real_process_is_one_line_too():
    done = process(*MODULE, "store", "show", "abc", "--store", "nowhere", env={**os.environ, "COLUMNS": "20"})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("nowhere': is not there; must be a folder in which runs are stored")


def test_a_slice_that_is_not_finished_ends_with_3(handed_on):
    assert invoke("measure", "resnet_forking", "--minutes", 5, "-p", "profile", "smoke").exit_code == 3
    assert invoke("measure", "resnet_forking", "--minutes", 6, "-p", "profile", "smoke").exit_code == 0
    assert [minutes for _, minutes, _ in handed_on] == [5, 6]


def test_parameters_are_handed_on_by_name_and_value(handed_on):
    invoke(
        "measure", "a", "-p", "fork_epochs", "[0, 1]", "-p", "seed", "-1", "-p", "model", "x=y", "-p", "lr", "--minutes"
    )
    invoke("measure", "b", "-p", "profile", "smoke", "--in-one-go")
    one = {"profile": "paper", "fork_epochs": "[0, 1]", "seed": "-1", "model": "x=y", "lr": "--minutes"}
    assert handed_on == [("a", 8, one), ("b", None, {"profile": "smoke"})]


def test_one_chapter_or_all(handed_on, monkeypatch):
    campaigns = []
    monkeypatch.setattr("lmclib.book.campaign.campaign", lambda *given: campaigns.append(given[:4]) or given[1] > 5)
    assert invoke("measure").exit_code == invoke("measure", "a", "--all").exit_code == 2
    assert invoke("measure", "--all", "--profile", "cifar", "--workers", 3, "-p", "seeds", "1").exit_code == 0
    assert invoke("measure", "--all", "--profile", "cifar", "--workers", 3, "--minutes", 5).exit_code == 3
    assert campaigns == [("cifar", 8, {"seeds": "1"}, 3), ("cifar", 5, {}, 3)]
    assert not handed_on


def test_paths_are_meant_from_the_current_folder(handed_on, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    invoke("measure", "a", "-p", "store", "runs", "-p", "data", "folder:birds")
    invoke("measure", "a", "-p", "store", "~/runs", "-p", "data", "digits")
    invoke("measure", "a", "-p", "store", "/runs", "-p", "data", "folder:/birds")
    said = [(given["store"], given["data"]) for _, _, given in handed_on]
    here = (str(tmp_path / "runs"), f"folder:{tmp_path / 'birds'}")
    assert said == [here, ("/home/somebody/runs", "digits"), ("/runs", "folder:/birds")]


def test_a_build_is_told_only_the_folders_that_are_given(tmp_path, monkeypatch):
    """What is not given stays as the library has it: the key of an executed chapter has its store in it."""
    seen = []
    monkeypatch.setattr("lmclib.book.build.build", lambda *args, **kwargs: seen.append((args, kwargs)) or tmp_path)
    monkeypatch.chdir(tmp_path)
    assert invoke("build").stdout == f"The book is at {tmp_path}\n"
    invoke("build", "--profile", "smoke", "--store", "runs", "--output", "../out")
    there = {"output": tmp_path / "../out", "store": tmp_path / "runs"}
    assert seen == [(("digits",), {"pdf": False}), (("smoke",), {**there, "pdf": False})]


def test_a_build_names_its_pdf(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("lmclib.book.build.build", lambda *_, pdf: seen.append(pdf) or tmp_path / "html" / "index.html")
    assert (
        invoke("build", "--pdf").stdout.split()
        == f"The book is at {tmp_path}/html/index.html and at {tmp_path}/book.pdf".split()
    )
    assert seen == [True]


def test_a_plan_says_what_is_missing(tmp_path):
    smoke = ["-p", "profile", "smoke", "-p", "store", tmp_path]
    planned = invoke("plan", "resnet_forking", *smoke, "-p", "fork_epochs", "[0, 1]").stdout
    assert planned.startswith("24 networks to train ("), "a parent and two children of each fork, and of the last again"
    assert "deep_linear forks no networks, so it has no estimate" in invoke("plan", "deep_linear", *smoke).stdout
    assert not list(tmp_path.iterdir())


def test_results_are_measured_packed_listed_and_checked(shelf, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    assert invoke("results", "pack", "resnet_forking", "--store", runs).exit_code == 1
    assert invoke("measure", "resnet_forking", "--in-one-go", "-p", "store", runs).exit_code == 0
    for wrong in (
        ("resnet_forking", "--beside", "../elsewhere"),
        ("--beside", "slow"),
    ):  # a path; a name without a chapter
        assert invoke("results", "pack", *wrong, "--store", runs).exit_code == 2
    packed = invoke("results", "pack", "--store", runs)
    assert re.search(r"resnet_forking: \d+ tables, CPU", packed.stdout)
    assert "deep_linear: chapter='deep_linear': is not finished" in packed.stdout

    listed = json.loads(invoke("results", "list", "--json").stdout)
    assert {row["name"] for row in listed} == {path.name for path in shelf.iterdir() if (path / "run.json").exists()}
    assert {row["kind"] for row in listed} == {"barrier_curve", "child", "network_values", "sibling_trajectory"}
    for row in listed:
        assert (row["chapters"], row["model"], row["data"]) == (["resnet_forking"], "mlp-4", "digits")
        signed = json.loads((shelf / row["name"] / "provenance.json").read_text())
        assert row["hours"] == signed["seconds"] / 3600
        assert row["seeds"] == [network["seed"] for network in signed["networks"]]
    shown = invoke("results", "list").stdout
    (line,) = [line for line in shown.splitlines() if "barrier_curve" in line]
    n = sum(row["kind"] == "barrier_curve" for row in listed)
    assert re.search(rf"resnet_forking +barrier_curve +digits +0, 1, 2 +CPU .* {n} +\d+\.\d\d", line)

    checked = invoke("results", "check", "--strict")
    assert checked.exit_code == 0
    assert checked.stdout == f"{len(listed)} of {len(listed)} tables are made by today's code\n"
    today = roots.code_fingerprint
    monkeypatch.setattr(roots, "code_fingerprint", lambda *asked: "changed" if train in asked else today(*asked))
    assert invoke("results", "check").exit_code == 0
    strict = invoke("results", "check", "--strict")
    assert strict.exit_code == 1
    assert f"0 of {len(listed)} tables are made by today's code" in strict.stdout
    assert strict.stdout.count("made by other code than today's") == 4, "a row a kind"
    rows = json.loads(invoke("results", "check", "--json").stdout)
    assert [row["code"] for row in rows] == ["differs"] * len(listed)


def test_code_that_is_not_known_is_said_and_is_no_difference(shelf):
    def own(n=1):
        return lmc.barrier_curve and __import__("pandas").DataFrame({"n": [n]})

    store = Store(shelf, results=shelf / "none")
    for n in (1, 2):
        store.remember(own, n=n)
    one, _ = (entry.folder for entry in entries(shelf))
    made = json.loads((one / "provenance.json").read_text())
    (one / "provenance.json").write_text(json.dumps({name: made[name] for name in ("hardware", "seconds", "commit")}))
    checked = invoke("results", "check", "--strict")
    assert checked.exit_code == 0
    assert "made by code that was not written down" in checked.stdout
    assert "own is not of this library" in checked.stdout
    assert "0 of 2 tables are made by today's code" in checked.stdout


def test_every_committed_table_is_that_of_a_chapter():
    rows = committed.list_results()
    assert rows
    for row in rows:
        assert row["chapters"], row
        assert row["hours"] > 0
        assert row["commit"]


def test_lines_are_not_broken_where_no_person_looks(store):
    (entry, *_) = entries(store)
    made = json.loads((entry.folder / "provenance.json").read_text())
    long = "word " * 100 + "end"
    (entry.folder / "provenance.json").write_text(json.dumps({**made, "hardware": long}))
    done = process(*MODULE, "store", "show", entry.address, "--store", store, env={**os.environ, "COLUMNS": "40"})
    assert any(long in line for line in done.stdout.splitlines())
    listed = invoke("store", "list", "--store", store, env={"COLUMNS": "40"}).stdout
    for entry in entries(store):
        (line,) = [line for line in listed.splitlines() if entry.address in line]
        assert all(word in line for word in (entry.kind, "mlp-4", "digits", entry.row["date"]))


def test_a_store_is_listed_and_shown_from_the_current_folder(store, monkeypatch):
    monkeypatch.chdir(store.parent)
    listed = json.loads(invoke("store", "list", "--store", "runs", "--json").stdout)
    assert listed == [entry.row for entry in entries(store)]
    assert len(listed) == 4
    (entry,) = [entry for entry in entries(store) if entry.kind == "barrier_curve"]
    shown = json.loads(invoke("store", "show", entry.address, "--store", "runs", "--json").stdout)
    assert shown["run"] == json.loads((entry.folder / "run.json").read_text())
    assert shown["provenance"] == json.loads((entry.folder / "provenance.json").read_text())
    assert shown["files"] == {path.name: path.stat().st_size for path in entry.folder.iterdir()}
    text = invoke("store", "show", entry.address, "--store", "runs").stdout
    for said in (str(entry.folder), "lmclib.measures.barriers:barrier_curve", "table.", "provenance.json", "alphas"):
        assert said in text


def test_verify_ends_with_1_where_a_file_is_damaged(store):
    assert invoke("store", "verify", "--store", store).exit_code == 0
    path = next(store.rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    done = process(*MODULE, "store", "verify", "--store", store)
    assert done.returncode == 1
    assert f"{path.parent.name}/{path.name}" in done.stdout
    said = invoke("store", "verify", "--store", store, "--json")
    assert said.exit_code == 1
    assert [one["path"] for one in json.loads(said.stdout)["damaged"]] == [f"{path.parent.name}/{path.name}"]
    assert path.exists()


def test_prune_deletes_only_when_told_so(store):
    damaged = store / "table.0123456789abcdef.parquet.damaged"
    damaged.write_bytes(b"x" * 2000)
    dry = invoke("store", "prune", "--store", store)
    assert damaged.name in dry.stdout
    assert "2.0 kB would be freed: `lmclib store prune --yes` deletes it" in dry.stdout
    said = json.loads(invoke("store", "prune", "--store", store, "--json").stdout)
    assert said["size"] == 2000
    assert said["deleted"] is False
    assert damaged.exists()
    done = process(
        *MODULE,
        "store",
        "prune",
        "--yes",
        "--store",
        "runs",
        cwd=store.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "2.0 kB freed" in done.stdout
    assert not damaged.exists()
    assert len(entries(store)) == 4
    assert invoke("store", "prune", "--store", store).stdout == "0 bytes freed\n"
