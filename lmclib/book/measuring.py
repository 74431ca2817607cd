"""A chapter's measuring cells as a plain script: what trains and measures, without a notebook and without figures."""

import json
import linecache
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lmclib.book.settings import Settings
from lmclib.errors import LmcError
from lmclib.processes import ChildProcesses
from lmclib.root import ROOT, from_root
from lmclib.store.dry_run import NotRun

BOOK = from_root("book")
TAG = "measure"  # of the cells that train and measure, in a notebook
FOLDER = "folder:"  # before the path of a data set


def measuring_chapters() -> list[str]:
    """The names of the chapters that have something to measure."""
    return [path.stem for path in sorted(BOOK.glob("*.ipynb")) if _cells(path)]


def measure(chapter: str, given: Mapping[str, object]) -> dict[str, object]:
    """Run a chapter's measuring cells, in order and in this process.

    Args:
        chapter: its name.
        given: parameters that override those of its first cell.

    Returns:
        The variables that the cells leave behind.

    Raises:
        LmcError: no such chapter, one without anything to measure, a wrong parameter, or what the cells raise.
    """
    return _run_cells(chapter, _source(chapter), given)


def measured_so_far(chapter: str, given: Mapping[str, object]) -> tuple[dict[str, object], NotRun | None]:
    """As `measure` in a dry run, but cells whose tables are not all there are passed over, and those that need what these would set.

    Returns:
        The variables that the others leave behind, and the first thing that is missing, if any is.
    """
    first, *rest = _source(chapter)
    namespace, missing = _run_cells(chapter, [first], given), None
    for i, cell in enumerate(rest, 1):
        try:
            _run(cell, f"<{chapter}: measuring cell {i}>", namespace)
        except NotRun as error:
            missing = missing or error
        except NameError:
            if missing is None:
                raise
    return namespace, missing


def chapter_settings(chapter: str, given: Mapping[str, object]) -> Settings:
    """A chapter's settings, as its first two measuring cells make them.

    Raises:
        LmcError: as `measure`.
    """
    first, second, *_ = _source(chapter)
    return _run_cells(chapter, [first, second], given)["settings"]


def measure_for(chapter: str, minutes: float, given: Mapping[str, object], workers: int = 1) -> bool:
    """`measure` in a process of its own that is stopped after some minutes; whether it came to its end.

    What it trained and measured stays in the store, so the next slice goes on where this one was stopped: a stopped slice
    loses at most its last epoch or measurement.

    Args:
        chapter: its name.
        minutes: after which it is stopped.
        given: parameters that override those of its first cell.
        workers: processes in which it trains and measures side by side.

    Raises:
        LmcError: as `measure`, or the chapter failed, or so few minutes that nothing at all was finished in them, as then no
            number of slices would do.
    """
    if minutes <= 0:
        raise LmcError(f"minutes={minutes:g}: must be above 0")
    store = from_root(chapter_settings(chapter, given).store)
    before = _results(store)
    absolute = absolute_paths(given, ROOT)  # on a command line they are meant from the current folder
    options = [item for name, value in absolute.items() for item in ("-p", name, str(value))]
    own = ["--in-one-go", "--workers", str(workers)]
    command = [sys.executable, "-m", "lmclib", "measure", chapter, *own, *options]
    try:
        with ChildProcesses() as processes:
            done = processes.run(command, timeout=60 * minutes)
    except subprocess.TimeoutExpired:
        if _results(store) == before:
            raise LmcError(f"minutes={minutes:g}: nothing was finished in that time; give it more") from None
        return False
    if done.returncode:
        raise LmcError(f"{chapter}: stopped with an error, said above; what was computed before is kept")
    return True


def absolute_paths(given: Mapping[str, object], base: Path) -> dict[str, object]:
    """Parameters with the paths among them, of a store and of a folder of images, made absolute.

    Args:
        given: parameters by name.
        base: where relative paths are meant from.

    Example:
        >>> absolute_paths({"store": "runs", "data": "folder:/birds", "seed": 0}, Path("/here"))
        {'store': '/here/runs', 'data': 'folder:/birds', 'seed': 0}
    """
    absolute = dict(given)
    if given.get("store"):
        absolute["store"] = str(base / Path(str(given["store"])).expanduser())
    if (data := str(given.get("data", ""))).startswith(FOLDER):
        absolute["data"] = f"{FOLDER}{base / Path(data.removeprefix(FOLDER)).expanduser()}"
    return absolute


def _run_cells(chapter: str, cells: Sequence[str], given: Mapping[str, object]) -> dict[str, object]:
    """The variables that a parameters cell, given parameters and the cells after it leave behind."""
    first, *rest = cells
    # functions of a cell have the name that they have in a notebook, so that they find the same tables
    namespace: dict[str, object] = {"__name__": "__main__"}
    _run(first, f"<{chapter}: parameters>", namespace)
    namespace.update(given)
    for i, cell in enumerate(rest, 1):
        _run(cell, f"<{chapter}: measuring cell {i}>", namespace)
    return namespace


def _run(cell: str, name: str, namespace: dict[str, object]) -> None:
    # as in a notebook, functions of a cell can be asked for their source, by which what they compute is remembered
    linecache.cache[name] = len(cell), None, cell.splitlines(keepends=True), name
    exec(compile(cell, name, "exec"), namespace)


def _results(store: Path) -> set[Path]:
    """Every checkpoint and table in a store; new content has a new name."""
    return {path for suffix in ("safetensors", "parquet") for path in store.rglob(f"*.{suffix}")}


def _source(chapter: str) -> list[str]:
    """The parameters cell and the measuring cells of a chapter."""
    path = BOOK / f"{chapter}.ipynb"
    if not path.exists() or not (cells := _cells(path)):
        raise LmcError(f"chapter={chapter!r}: must be one of {', '.join(measuring_chapters())}")
    return cells


def _cells(path: Path) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    tagged = [(cell["metadata"].get("tags", []), "".join(cell["source"])) for cell in cells]
    measuring = [source for tags, source in tagged if TAG in tags]
    return [source for tags, source in tagged if "parameters" in tags] + measuring if measuring else []
