"""The keys of chapters: what reruns one, and what does not."""

import json
import shutil

import pytest

from lmclib.book.chapters import ALONE, LAST, MINUTES, find_chapters
from lmclib.root import ROOT

GIVEN = {"profile": "smoke", "store": "data/runs"}


def keys(root=ROOT, **given):
    return {chapter.name: chapter.key for chapter in find_chapters({**GIVEN, **given}, root, root)}


def changed(before, after):
    return {name for name in before if before[name] != after[name]}


@pytest.fixture
def copy(tmp_path):
    for name in ("_toc.yml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "book", tmp_path / "book", ignore=shutil.ignore_patterns("vendor"))
    return tmp_path


def edit(root, chapter, old, new):
    path = root / "book" / f"{chapter}.ipynb"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_nothing_changed_runs_nothing():
    assert keys() == keys()


@pytest.mark.parametrize("given", [{"profile": "digits"}, {"store": "data/others"}])
def test_parameters_are_part_of_every_key(given):
    assert changed(keys(), keys(**given)) == set(keys())


def test_an_edit_of_prose_runs_nothing(copy):
    before = keys(copy)
    edit(copy, "toy_barriers", "Two valleys are two valleys", "Two valleys are two")
    assert keys(copy) == before


def test_an_edit_of_code_reruns_its_chapter_and_those_that_show_what_all_have_stored(copy):
    before = keys(copy)
    edit(copy, "toy_barriers", "model1, model2 = (0.5, 2.0)", "model1, model2 = (0.4, 2.5)")
    assert changed(before, keys(copy)) == {"toy_barriers", "preface", "ledger"}


def test_results_that_come_rerun_the_chapter_that_shows_them(copy):
    results = copy / "data" / "results"
    (results / "chapters" / "cifar").mkdir(parents=True)
    (results / "table").mkdir()
    before = keys(copy)
    (results / "chapters" / "cifar" / "resnet_forking.json").write_text(json.dumps({"questions": ["table"]}))
    listed = keys(copy)
    assert changed(before, listed) == {"resnet_forking", "preface", "ledger"}
    (results / "table" / "provenance.json").write_text("{}")
    assert changed(listed, keys(copy)) == {"resnet_forking", "preface", "ledger"}


def test_an_edit_of_the_library_reruns_what_reaches_it(monkeypatch):
    from lmclib.book import chapters

    def edited(source, closure=chapters.source_closure):
        return {
            name: digest + "!" * (name == "lmclib.theory.landscapes:barrier")
            for name, digest in closure(source).items()
        }

    before = keys()
    monkeypatch.setattr(chapters, "source_closure", edited)
    assert changed(before, keys()) == {"toy_barriers", "solutions", "preface", "ledger"}


def test_what_came_of_measuring_tables_again_reruns_the_chapter_that_says_it(copy):
    results = copy / "data" / "results"
    (results / "chapters" / "cifar").mkdir(parents=True)
    summary = {"chapter": "resnet_forking", "questions": ["a" * 20], "given": {}}
    (results / "chapters" / "cifar" / "resnet_forking.json").write_text(json.dumps(summary))
    before = keys(copy)
    (results / "reproduced.json").write_text(json.dumps({"b" * 20: {"difference": 0}}))
    assert keys(copy) == before, "no table of any chapter"
    (results / "reproduced.json").write_text(json.dumps({"a" * 20: {"difference": 0}}))
    assert changed(before, keys(copy)) == {"resnet_forking", "preface", "ledger"}


def test_long_chapters_begin_first_and_then_come_those_that_show_what_all_have_stored_and_that_which_times():
    names = [chapter.name for chapter in find_chapters(GIVEN, ROOT)]
    assert names[: len(MINUTES)] == list(MINUTES), "each of them is a chapter"
    *_, preface, ledger, timed = names
    assert ({preface, ledger}, (timed,)) == (set(LAST), ALONE)
