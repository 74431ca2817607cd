"""The repository's own promises: floors, names, pins, stripped sources, vendored scripts, the book's cache."""

import ast
import hashlib
import json
import re
import shutil
import tomllib

import altair
import pytest
from conftest import ROOT
from packaging.requirements import Requirement

import lmclib
from lmclib import book

FLOORS = (
    ("errors", "recurrence"),
    ("arithmetic",),
    ("cost", "data", "device", "functional", "layers", "models", "provenance", "stack"),
    ("capture", "prefix", "selfcheck", "store"),
    ("training",),
    ("families",),
    ("nursery",),
    ("forking",),
    ("cube",),
    ("pairs",),
    ("barriers", "comparison", "energies", "expansion", "geometry", "layerwise", "theory", "toy"),
    ("prediction",),
    ("claims",),
    ("settings",),
    ("profiles", "ledger", "measuring"),
    ("rehearsal",),
    ("paper",),
    ("charts",),
    ("widgets", "book"),
    ("__main__",),
)
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}


def rooms():
    return sorted(path for path in (ROOT / "lmclib").rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", rooms(), ids=lambda path: path.stem)
def test_each_room_imports_only_from_below(path):
    own = path.relative_to(ROOT / "lmclib").parts[0].removesuffix(".py")
    for node in ast.parse(path.read_text()).body:  # what a function imports late is no floor of the room
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lmclib."):
            other = node.module.split(".")[1]
            assert other == own or FLOOR[other] < FLOOR[own], f"{own} imports {other}"


def test_every_public_name_exists():
    for name in lmclib.__all__:
        assert getattr(lmclib, name) is not None
    with pytest.raises(AttributeError, match="lmclib has no 'layer_cube'"):
        lmclib.layer_cube  # noqa: B018


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


def test_a_chapter_depends_on_the_rooms_it_uses_and_theirs():
    toy = book.dependencies(ROOT / "book" / "toy_barriers.ipynb")
    forking = book.dependencies(ROOT / "book" / "resnet_forking.ipynb")
    assert {"toy", "charts.toy", "charts.style", "errors", "ledger"} <= toy
    assert {"cube", "stack"} <= forking
    assert "training" not in toy


def test_the_cache_notices_prose_and_library(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    before = {chapter.name: chapter.key for chapter in book._chapters("smoke", tmp_path)}
    assert before == {chapter.name: chapter.key for chapter in book._chapters("smoke", tmp_path)}
    assert before["toy_barriers"] != {c.name: c.key for c in book._chapters("digits", tmp_path)}["toy_barriers"]
    copy = tmp_path / "toy.py"
    copy.write_text((ROOT / "lmclib/toy.py").read_text() + "\n# changed\n")
    original = book._file
    monkeypatch.setattr(book, "_file", lambda room: copy if room == "toy" else original(room))
    after = {chapter.name: chapter.key for chapter in book._chapters("smoke", tmp_path)}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"toy_barriers", "ledger", "preface"}


def test_an_edit_of_prose_reruns_one_chapter(tmp_path, monkeypatch):
    for name in ("_toc.yml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "book", tmp_path / "book", ignore=shutil.ignore_patterns("vendor"))
    monkeypatch.chdir(tmp_path)
    before = {chapter.name: chapter.key for chapter in book._chapters("smoke", tmp_path)}
    path = tmp_path / "book" / "toy_barriers.ipynb"
    path.write_text(path.read_text().replace("Two valleys are two valleys", "Two valleys are two"))
    after = {chapter.name: chapter.key for chapter in book._chapters("smoke", tmp_path)}
    assert {name for name in before if before[name] != after[name]} == {"toy_barriers"}
