"""Building the book where others build, read, or leave no room."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from disks import fill, forbidden, read_only, small_disk

from lmclib import locks
from lmclib.book import build as building
from lmclib.book import execute, site
from lmclib.book.chapters import Chapter
from lmclib.book.execute import execute_all
from lmclib.book.site import replace_folder
from lmclib.errors import LmcError
from lmclib.root import ROOT

# a copy that stops in the middle
KILLED = """
import shutil, sys, time
from pathlib import Path
from lmclib.book.site import replace_folder

def half(source, target):
    target.mkdir()
    (target / "index.html").write_text("half")
    print("half", flush=True)
    time.sleep(600)

shutil.copytree = half
replace_folder(Path(sys.argv[1]) / "site", Path(sys.argv[1]) / "html")
"""


@pytest.fixture
def no_chapters(monkeypatch):
    """A book without chapters, so that all there is to do is to write it."""
    monkeypatch.setattr(building, "find_chapters", lambda parameters, folder: [])


def test_two_builds_of_one_folder_wait_for_each_other(no_chapters, tmp_path, monkeypatch, capsys):
    at_work, heard = [], threading.Event()

    def render(stage, output):
        at_work.append(1)
        assert len(at_work) == 1
        assert heard.wait(60)
        (output / "html").mkdir(exist_ok=True)
        at_work.pop()

    write = locks.tqdm.write
    monkeypatch.setattr(locks, "PATIENCE", 0.2)
    monkeypatch.setattr(locks.tqdm, "write", lambda text, **options: (write(text, **options), heard.set()))
    monkeypatch.setattr(building, "lay_out", lambda *_: None)
    monkeypatch.setattr(building, "render", render)
    with ThreadPoolExecutor(2) as pool:
        pages = list(pool.map(lambda _: building.build("smoke", tmp_path, tmp_path), range(2)))
    assert pages == [tmp_path / "html" / "index.html"] * 2
    said = f"waiting for process {os.getpid()}, which is busy with building the book in {tmp_path}\n"
    assert capsys.readouterr().err.count(said) == 1
    assert os.listdir(tmp_path) == ["html"]


def test_a_killed_build_leaves_the_site_before(tmp_path):
    for name in ("html", "site"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text(name)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout.readline() == "half\n"
        killed.kill()
    assert (tmp_path / "html" / "index.html").read_text() == "html"
    replace_folder(tmp_path / "site", tmp_path / "html")
    assert (tmp_path / "html" / "index.html").read_text() == "site"
    assert sorted(os.listdir(tmp_path)) == ["html", "site"]


def test_what_a_killed_build_left_half_executed_goes(tmp_path):
    chapter = Chapter("toy", tmp_path / "toy.ipynb", "key", tmp_path / "executed")
    chapter.folder.mkdir()
    chapter.executed.write_text("done")
    (chapter.folder / "toy.other.part.ipynb").write_text("half")
    execute_all([chapter], {})
    assert os.listdir(chapter.folder) == ["toy.key.ipynb"]


def test_a_chapter_that_fails_leaves_its_notebook_and_the_others_go_on(tmp_path, monkeypatch):
    reports = tmp_path / "reports"
    monkeypatch.setattr(execute, "REPORTS", reports)
    chapters = []
    for name, source in (("bad", "1 / 0"), ("good", "1 + 1")):
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source)],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}},
        )
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
        chapters.append(Chapter(name, tmp_path / f"{name}.ipynb", "key", tmp_path / "executed"))
    with pytest.raises(LmcError) as error:
        execute_all(chapters, {})
    line = f"bad: ZeroDivisionError: division by zero (the notebook as far as it came: {reports / 'bad.ipynb'})"
    assert str(error.value) == line
    assert "ZeroDivisionError" in (reports / "bad.ipynb").read_text()
    assert os.listdir(tmp_path / "executed") == ["good.key.ipynb"]


def test_what_shows_others_runs_after_them_and_what_times_runs_alone(tmp_path, monkeypatch):
    together = []

    def recorded(todo, what):
        together.append({one.source.stem for one in todo})
        return iter(())

    monkeypatch.setattr(execute, "executed", recorded)
    names = ("scaling_out", "ledger", "deep_linear", "preface", "toy_barriers")
    execute_all([Chapter(name, tmp_path / f"{name}.ipynb", "key", tmp_path) for name in names], {})
    assert together == [{"deep_linear", "toy_barriers"}, {"preface", "ledger"}, {"scaling_out"}]


def test_a_reader_never_finds_a_site_missing_or_in_part(tmp_path):
    """A thread reads while two sites of many pages take turns."""
    pages = {f"page{i}" for i in range(30)}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for page in pages:
            (tmp_path / name / page).write_text(name)
    target, wrong, over = tmp_path / "html", [], threading.Event()
    replace_folder(tmp_path / "two", target)

    def read():
        while not over.is_set():
            try:
                if set(os.listdir(target)) != pages:
                    wrong.append("in part")
                if (target / "page0").read_text() not in ("one", "two"):
                    wrong.append("half a page")
            except FileNotFoundError:
                wrong.append("missing")

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(6):
        replace_folder(tmp_path / ("one", "two")[turn % 2], target)
    over.set()
    reader.join()
    assert not wrong
    assert {path.read_text() for path in target.iterdir()} == {"two"}
    assert sorted(os.listdir(tmp_path)) == ["html", "one", "two"]


def test_a_full_disk_is_one_line(no_chapters, tmp_path):
    with small_disk(tmp_path / "disk", "1m") as disk:
        filler = fill(disk)
        with pytest.raises(LmcError, match=r"book'?: .*\(No space left on device\); make room") as caught:
            building.build("smoke", disk / "book", tmp_path)
        assert "\n" not in str(caught.value)
        filler.unlink()
        assert not [path for path in disk.rglob("*") if path.suffix in (".part", ".lock")]


def test_a_site_that_finds_no_room_leaves_the_one_before(tmp_path):
    with small_disk(tmp_path / "disk", "1m") as disk:
        for name, size in (("html", 1), ("site", 900_000)):
            (disk / name).mkdir()
            (disk / name / "index.html").write_text("x" * size)
        with pytest.raises(OSError, match="No space left on device"):
            replace_folder(disk / "site", disk / "html")
        assert sorted(os.listdir(disk)) == ["html", "site"]
        assert (disk / "html" / "index.html").read_text() == "x"


def test_a_folder_that_cannot_be_written_to_is_one_line(no_chapters, tmp_path, tmp_path_factory):
    with read_only(tmp_path), pytest.raises(LmcError, match=r"cannot be written to \(Read-only file system\)"):
        building.build("smoke", tmp_path, tmp_path)
    theirs = tmp_path_factory.mktemp("theirs")
    for above in theirs.parents[:2]:  # pytest's own folders are closed to others
        above.chmod(0o755)
    with forbidden(theirs), pytest.raises(LmcError, match=r"cannot be written to \(Permission denied\)"):
        building.build("smoke", theirs, tmp_path)
    assert not os.listdir(theirs)


def test_what_is_rendered_already_is_not_rendered_again(tmp_path, monkeypatch):
    asked = []

    class Renderer:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def run(self, command, **_):
            asked.append(command)
            (tmp_path / "site" / "_build" / "html").mkdir(parents=True, exist_ok=True)
            return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(site, "ChildProcesses", Renderer)
    stage = tmp_path / "stage"
    stage.mkdir()
    for text, times in (("one", 1), ("one", 1), ("two", 2), ("one", 3)):
        (stage / "page.md").write_text(text)
        site.render(stage, tmp_path)
        assert len(asked) == times
    (tmp_path / "html").rmdir()
    site.render(stage, tmp_path)
    assert len(asked) == 4


def test_the_bar_goes_on_with_the_clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(execute.time, "monotonic", lambda: 60 * now[0])
    todo = [execute.Execution(Path(f"{n}"), Path(f"{n}"), {}, minutes) for n, minutes in enumerate((10, 4, 2))]
    with execute._Progress("run chapters", todo, 2, shown=True) as progress:
        assert progress.bar.n == 0
        now[0] = 3
        progress.tick()
        assert progress.bar.n == pytest.approx(3 + 3)  # two at once
        now[0] = 6
        progress.tick()
        assert progress.bar.n == pytest.approx(6 + 0.95 * 4)  # late, and not yet done
        progress.ended(todo[1])
        assert progress.bar.n == pytest.approx(6 + 4)
        assert progress.bar.desc == "run chapters, 1 of 3: "
        now[0] = 7
        progress.tick()
        assert progress.bar.n == pytest.approx(7 + 4 + 1)  # the third began with that
        for one in (todo[0], todo[2]):
            progress.ended(one)
        assert progress.bar.n == progress.bar.total
