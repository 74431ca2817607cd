"""The site: executed chapters laid out as their sources are, and rendered without running anything."""

import hashlib
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat

from lmclib.book.api import library_page
from lmclib.book.chapters import Chapter
from lmclib.book.status import status_page
from lmclib.errors import LmcError
from lmclib.files import digest, exchange, write_text
from lmclib.processes import ChildProcesses
from lmclib.root import ROOT

READING = 0.1  # seconds in which whoever is just listing a folder that was replaced still finds it whole
INJECTED = "injected-parameters"  # the tag of the cell that papermill puts in


def lay_out(chapters: Sequence[Chapter], stage: Path) -> None:
    """Lay out the executed notebooks as their sources are laid out, so that rendering runs nothing."""
    (stage / "book").mkdir(parents=True, exist_ok=True)
    for name in ("_config.yml", "_toc.yml", "CITATION.cff"):
        _copy(ROOT / name, stage / name)
    for path in sorted((ROOT / "book").rglob("*")):
        if path.is_file() and path.suffix != ".ipynb" and ".ipynb_checkpoints" not in path.parts:
            _copy(path, stage / path.relative_to(ROOT))
    for chapter in chapters:
        _merge_notebook(chapter, stage / chapter.source.relative_to(ROOT))
    for name, text in (("library", library_page()), ("status", status_page(chapters))):
        _write(text, stage / "book" / f"{name}.md")


def _write(text: str, target: Path) -> None:
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        write_text(target, text)


def _copy(source: Path, target: Path) -> None:
    # an unchanged file keeps its time, so that Sphinx reads only what changed
    if not target.exists() or target.read_bytes() != source.read_bytes():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _merge_notebook(chapter: Chapter, target: Path) -> None:
    """Write a chapter's source with the outputs of its executed copy: prose may be newer than those."""
    source, executed = (nbformat.read(path, as_version=4) for path in (chapter.source, chapter.executed))
    ran = [
        cell for cell in executed.cells if cell.cell_type == "code" and INJECTED not in cell.metadata.get("tags", [])
    ]
    for cell, done in zip((cell for cell in source.cells if cell.cell_type == "code"), ran, strict=True):
        cell.outputs, cell.execution_count = done.outputs, done.execution_count
    _write(nbformat.writes(source), target)


def render(stage: Path, output: Path) -> None:
    """Render what was laid out as `html/`, which until then is the site before; where it is that already, there is nothing to do.

    Raises:
        LmcError: the site has a warning.
    """
    made, mark, laid_out = output / "site", output / "rendered", _folder_digest(stage)
    if (output / "html").exists() and mark.exists() and mark.read_text() == laid_out:
        return
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", "-W", "-n", "--keep-going", "-q"]
    with ChildProcesses() as processes:
        done = processes.run([*command, str(stage), "--path-output", str(made)], capture_output=True, text=True)
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if "WARNING" in line or "ERROR" in line]
        raise LmcError("the site has warnings:\n" + "\n".join(said or (done.stdout + done.stderr).splitlines()[-20:]))
    replace_folder(made / "_build" / "html", output / "html")
    write_text(mark, laid_out)


def _folder_digest(folder: Path) -> str:
    """A digest of all that a site is rendered from: what was laid out, and the packages that render it."""
    total = hashlib.sha256((ROOT / "requirements.lock").read_bytes())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(folder)} {digest(path)}\n".encode())
    return total.hexdigest()


def replace_folder(source: Path, target: Path) -> None:
    """Put a copy of a folder in another's place in one step."""
    new = target.with_name(f"{target.name}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)  # of a build that was killed
        shutil.copytree(source, new)
        exchange(new, target)
        time.sleep(READING)
    except shutil.Error as error:  # which tells of every single file
        raise OSError(error.args[0][0][-1]) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
