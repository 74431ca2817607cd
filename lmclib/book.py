"""Build the book: run what changed through papermill, several kernels at once, then render one offline site."""

import ast
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import joblib
import nbformat
import yaml
from tqdm import tqdm

import lmclib
from lmclib.errors import LmcError
from lmclib.store import write_text

TIMEOUT = 1800  # seconds a cell may take
LAST = ("preface", "ledger")  # they show what the other chapters stored, so they run after them
THREADS = 1  # of each kernel: small networks gain little from a second one, and the number decides the bits of a run
TRIES = 2  # a kernel can die before it says anything: two kernels sometimes draw the same port


@dataclass(frozen=True)
class Chapter:
    """One notebook: where its source is, and the key under which its executed copy is kept."""

    name: str
    source: Path
    key: str
    folder: Path

    @property
    def executed(self) -> Path:
        return self.folder / f"{self.name}.{self.key}.ipynb"


def build(profile: str = "digits", output: str | Path = "_build", store: str = "data/runs") -> Path:
    """Execute the chapters that changed, render the site, and return its first page.

    Args:
        profile: the scale at which chapters run.
        output: the folder that receives `html/` and keeps executed chapters.
        store: where runs are remembered.

    Raises:
        LmcError: a chapter failed (its notebook is then in `reports/`), or the site has a warning.
    """
    if not Path("_toc.yml").exists():
        raise LmcError("_toc.yml: not found; run this from the root of the repository")
    output = Path(output)
    fresh = _execute_all(_chapters(profile, output / "executed"), {"profile": profile, "store": store})
    stage = output / "stage"
    _stage(fresh, stage, profile)
    _render(stage, output)
    return output / "html" / "index.html"


def chapter_names() -> list[str]:
    """The names of the chapters in the order of `_toc.yml`."""
    toc = yaml.safe_load(Path("_toc.yml").read_text())
    return [Path(entry).name for entry in [toc["root"], *(chapter["file"] for chapter in toc["chapters"])]]


def execute(source: Path, target: Path, parameters: dict[str, str]) -> float:
    """Run one notebook through papermill in a kernel of its own; returns the seconds it took.

    Raises:
        LmcError: the notebook failed; the executed copy is moved to `reports/`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    working = target.with_suffix(".part.ipynb")
    options = [item for name, value in parameters.items() for item in ("-p", name, value)]
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--execution-timeout", str(TIMEOUT)]
    environment = {**os.environ, "LMC_STATIC": "1", "OMP_NUM_THREADS": str(THREADS), "PYTHONHASHSEED": "0"}
    for _ in range(TRIES):
        start = time.monotonic()
        done = subprocess.run(
            [*command, str(source), str(working), *options],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if "Kernel died before replying" not in done.stderr:
            break
    if done.returncode:
        report = Path("reports") / f"{target.name.split('.')[0]}.ipynb"
        report.parent.mkdir(exist_ok=True)
        if working.exists():
            shutil.move(working, report)
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LmcError(f"{source.stem}: {said} (the notebook as far as it came: {report})")
    os.replace(working, target)
    return time.monotonic() - start


def dependencies(source: Path) -> set[str]:
    """The rooms of lmclib that a notebook uses, directly or through other rooms."""
    todo = {room for cell in _code(source) for room in _rooms_in(cell)}
    rooms: set[str] = set()
    while todo:
        room = todo.pop()
        rooms.add(room)
        todo |= _rooms_in(_file(room).read_text()) - rooms
    return rooms


def _code(source: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(source, as_version=4).cells if cell.cell_type == "code"]


def _rooms_in(code: str) -> set[str]:
    """The rooms that a piece of code names: `lmc.X`, `from lmclib.room import …`, `from lmclib import room`."""
    tree = ast.parse("\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!"))))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("lmc", "lmclib"):
            names.add(lmclib._ROOM_OF.get(node.attr, node.attr))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lmclib"):
            room = node.module.removeprefix("lmclib").lstrip(".")
            names |= {room} if room else set()
            names |= {f"{room}.{alias.name}".lstrip(".") for alias in node.names}
    return {room for name in names if (room := lmclib._ROOM_OF.get(name, name)) and _file(room).exists()}


def _file(room: str) -> Path:
    base = Path(lmclib.__file__).parent / room.replace(".", "/")
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _chapters(profile: str, folder: Path) -> list[Chapter]:
    common = [Path("requirements.lock"), *sorted(Path("data/results").rglob("*.*"))]
    chapters: list[Chapter] = []
    measured = hashlib.sha256()  # over all that decides what chapters measure: code, library and data, but not prose
    for name in sorted(chapter_names(), key=lambda name: name in LAST):
        source = Path("book") / f"{name}.ipynb"
        digest = hashlib.sha256(repr((profile, sys.version_info[:2])).encode())
        for path in (*(_file(room) for room in sorted(dependencies(source))), *common):
            digest.update(path.name.encode() + path.read_bytes())
        if name in LAST:
            digest.update(measured.digest())
        else:
            measured.update(digest.digest() + "".join(_code(source)).encode())
        digest.update(source.read_bytes())
        chapters.append(Chapter(name, source, digest.hexdigest()[:16], folder))
    return chapters


def _execute_all(chapters: list[Chapter], parameters: dict[str, str]) -> list[Chapter]:
    failures = []
    for wave in ([c for c in chapters if c.name not in LAST], [c for c in chapters if c.name in LAST]):
        todo = [chapter for chapter in wave if not chapter.executed.exists()]
        if not todo or failures:
            continue
        with (
            ThreadPoolExecutor(joblib.cpu_count()) as pool,
            tqdm(total=len(todo), desc="run chapters", unit="chapter") as bar,
        ):
            jobs = {pool.submit(execute, c.source, c.executed, parameters): c for c in todo}
            for job in as_completed(jobs):
                bar.update()
                if error := job.exception():
                    failures.append(str(error))
                    continue
                for old in jobs[job].folder.glob(f"{jobs[job].name}.*.ipynb"):
                    if old != jobs[job].executed and ".part." not in old.name:
                        old.unlink()
    if failures:
        raise LmcError("\n".join(failures))
    return chapters


def _stage(chapters: list[Chapter], stage: Path, profile: str) -> None:
    """Lay out the executed notebooks as their sources are laid out, so that rendering runs nothing."""
    (stage / "book").mkdir(parents=True, exist_ok=True)
    for name in ("_config.yml", "_toc.yml"):
        _copy(Path(name), stage / name)
    for path in sorted(Path("book").rglob("*")):
        if path.is_file() and path.suffix != ".ipynb" and ".ipynb_checkpoints" not in path.parts:
            _copy(path, stage / path)
    for chapter in chapters:
        _copy_notebook(chapter.executed, stage / chapter.source)
    write_text(stage / "book" / "built.md", _built(chapters, profile))


def _copy(source: Path, target: Path) -> None:
    # an unchanged file keeps its time, so that Sphinx reads only what changed
    if not target.exists() or target.read_bytes() != source.read_bytes():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _copy_notebook(source: Path, target: Path) -> None:
    """Copy an executed notebook without the cell that papermill put in."""
    notebook = nbformat.read(source, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    text = nbformat.writes(notebook)
    if not target.exists() or target.read_text() != text:
        write_text(target, text)


def _built(chapters: list[Chapter], profile: str) -> str:
    """Which machine built this copy, and how long each chapter took."""
    rows, dates = [], []
    order = chapter_names()
    for chapter in sorted(chapters, key=lambda chapter: order.index(chapter.name)):
        record = json.loads(chapter.executed.read_text())["metadata"]["papermill"]
        dates.append(record["start_time"][:10])
        rows.append(f"| {chapter.name} | {record['duration']:.0f} |")
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "altair", "jupyter-book"))
    lines = [
        f"Profile `{profile}`, run on {max(dates)}: Python {platform.python_version()}, {packages}; "
        f"{platform.system()} on {platform.machine()} with {os.cpu_count()} cores, {_accelerator()}.",
        "",
        "| chapter | seconds |",
        "| --- | ---: |",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def _accelerator() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def _render(stage: Path, output: Path) -> None:
    made = output / "site"
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", "-W", "-n", "--keep-going", "-q"]
    done = subprocess.run(
        [*command, str(stage), "--path-output", str(made)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if "WARNING" in line or "ERROR" in line]
        raise LmcError("the site has warnings:\n" + "\n".join(said or (done.stdout + done.stderr).splitlines()[-20:]))
    html = output / "html"
    shutil.rmtree(html, ignore_errors=True)
    shutil.copytree(made / "_build" / "html", html)
