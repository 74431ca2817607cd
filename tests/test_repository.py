"""The repository's own promises: floors, names, pins, stripped sources, vendored scripts, the book's cache."""

import ast
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import altair
import grimp
import pytest
from packaging.requirements import Requirement

import lmclib
from lmclib.code.fingerprint import source_closure
from lmclib.root import ROOT


def test_folders_import_only_from_below():
    """By import-linter, whose contract is in pyproject.toml; imports within functions count."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nothing_in_the_library_asks_its_front_door():
    """`from lmclib import X` would reach any floor; the fingerprint of code, and the page of the library, need the list of public names."""
    graph = grimp.build_graph("lmclib", cache_dir=None)
    assert graph.find_modules_that_directly_import("lmclib") == {"lmclib.book.api", "lmclib.code.fingerprint"}


def test_no_file_asks_another_for_an_underscored_name():
    for path in (ROOT / "lmclib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lmclib"):
                assert not [alias.name for alias in node.names if alias.name.startswith("_")], path


def test_every_folder_says_what_lives_in_it():
    for path in (ROOT / "lmclib").rglob("__init__.py"):
        said = ast.get_docstring(ast.parse(path.read_text()))
        assert said
        assert "mports" in said or path.parent.name == "lmclib", path


def test_tests_mirror_the_folders():
    folders = {path.name for path in (ROOT / "lmclib").iterdir() if (path / "__init__.py").exists()}
    assert folders == {path.name for path in (ROOT / "tests").iterdir() if list(path.glob("test_*.py"))}


def test_every_public_name_exists():
    for name in lmclib.__all__:
        assert getattr(lmclib, name) is not None
    with pytest.raises(AttributeError, match="lmclib has no 'layer_cube'"):
        lmclib.layer_cube  # noqa: B018


def test_a_process_loads_nothing_slow_that_it_does_not_use():
    """Every kernel and worker waits for what the library imports, as for PyTorch's compiler, and for grammars of a package that nothing here uses."""
    names = "import lmclib, sys, lmclib.charts.fork_figure\nfor name in lmclib.__all__: getattr(lmclib, name)\n"
    slow = {
        "torchvision",
        "torch._dynamo",
        "lark",
        "sympy",
        "sklearn",
        "distributed",
        "transformers",
        "papermill",
        "sphinx",
    }
    code = f"{names}print(*{slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_lock_pins_what_pyproject_asks_for_and_names_no_address():
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|\s@\s|--|[/\\]", text)
    pins = {Requirement(line).name.replace("_", "-").lower(): Requirement(line) for line in text.splitlines()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    for requirement in map(Requirement, wanted):
        (pin,) = pins[requirement.name.replace("_", "-").lower()].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version), requirement


def test_conda_and_pip_use_the_same_pins():
    assert "-r requirements.lock" in (ROOT / "environment.yml").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "book").glob("*.ipynb")), ids=lambda path: path.stem)
def test_sources_are_stripped_and_figures_described(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1
    for cell in code:
        if "figures." in "".join(cell["source"]):
            shown = cell["metadata"].get("mystnb", {})
            if "".join(cell["source"]).strip().splitlines()[-1].startswith(("figures.", "Tabs(")):
                assert all((shown["figure"]["caption"], shown["figure"]["name"], shown["image"]["alt"]))


def test_vendored_scripts_are_those_that_altair_expects():
    folder = ROOT / "book" / "vendor"
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    table = (folder / "README.md").read_text()
    for name, version in (
        ("vega", altair.VEGA_VERSION),
        ("vega-lite", altair.VEGALITE_VERSION),
        ("vega-embed", altair.VEGAEMBED_VERSION),
    ):
        assert re.search(rf"\| {name} \| {re.escape(version)}[.\d]* \|", table)


def test_the_page_of_benchmarks_is_their_results_each_with_its_machine(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from harness import RESULTS, page

    folders = [folder for folder in RESULTS.iterdir() if folder.is_dir()]
    assert folders
    for folder in folders:
        assert (folder / "README.md").read_text() == page(folder)


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_ask_for_what_there_is(path):
    assert source_closure(path.read_text())  # a name that the library does not have is an error
