"""Chapters: their sources, and the keys under which their executed copies are kept."""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from lmclib.book.committed_runs import BESIDE
from lmclib.code.fingerprint import source_closure
from lmclib.files import DIGITS, read_json
from lmclib.root import RESULTS, ROOT
from lmclib.store.results import REPRODUCED

LAST = ("preface", "ledger")  # they show what the other chapters stored, so they run after them
ALONE = ("scaling_out",)  # it times what workers gain, so that nothing runs beside it, and it comes after all others
# minutes that the long ones take, of one core at profile digits, in the order in which they begin: the longest first, so that in the
# end no core waits for one; but early the one whose networks others measure, too
MINUTES = {
    "resnet_forking": 3,
    "layerwise_barriers": 6,
    "architectures": 7,
    "hessian_predictions": 4,
    "learning_rate": 4,
    "robustness": 4,
    "federated": 2,
    "beyond_second_order": 1,
    "solutions": 1,
}


@dataclass(frozen=True)
class Chapter:
    """One notebook: where its source is, and the key under which its executed copy is kept."""

    name: str
    source: Path
    key: str
    folder: Path

    @property
    def minutes(self) -> int:
        """About how long it takes, beside the others."""
        return MINUTES.get(self.name, 1)

    @property
    def executed(self) -> Path:
        """Where its executed copy is, or will be."""
        return self.folder / f"{self.name}.{self.key}.ipynb"


def chapter_names(root: Path = ROOT) -> list[str]:
    """The names of the chapters, which are notebooks, in the order of `_toc.yml`."""
    return [name for name in page_names(root) if (root / "book" / f"{name}.ipynb").exists()]


def page_names(root: Path = ROOT) -> list[str]:
    """The names of all pages in the order of `_toc.yml`."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [Path(file).name for file in (toc["root"], *files)]


def find_chapters(parameters: Mapping[str, str], folder: Path, root: Path = ROOT) -> list[Chapter]:
    """All chapters in the order in which they run, with the keys of what they would compute now.

    A key is made of a chapter's code cells, the parts of the library that they reach, its parameters, its committed results and
    the pinned packages. Prose is not in it.

    Args:
        parameters: `profile` and `store`.
        folder: where executed copies are kept.
        root: of the repository.
    """
    common = _digest(parameters, sys.version_info[:2], (root / "requirements.lock").read_bytes())
    chapters: list[Chapter] = []
    measured = [common]  # of all that decides what other chapters store
    for name in sorted(chapter_names(root), key=_place):
        source = root / "book" / f"{name}.ipynb"
        code = code_cells(source)
        reached = sorted(source_closure("\n".join(_without_magics(cell) for cell in code)).items())
        own = _digest(code, reached, *_committed(root / RESULTS, name))
        measured.append(own)
        chapters.append(Chapter(name, source, _digest(*(measured if name in LAST else (common, own))), folder))
    return chapters


def _place(name: str) -> tuple[int, int]:
    return wave(name), list(MINUTES).index(name) if name in MINUTES else len(MINUTES)


def wave(name: str) -> int:
    """In which of three waves, each after the one before, a chapter runs."""
    return 2 if name in ALONE else int(name in LAST)


def code_cells(source: Path) -> list[str]:
    """The code cells of a notebook."""
    cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def _without_magics(cell: str) -> str:
    return "\n".join(line for line in cell.splitlines() if not line.lstrip().startswith(("%", "!")))


def _committed(results: Path, chapter: str) -> list[bytes]:
    """What is committed of a chapter: tables, by the summaries that list them, what came of measuring these again, rows of the ledger,
    and what carries its name.
    """
    summaries, rows = (
        [path for name in (chapter, f"{chapter}{BESIDE}*") for path in sorted(results.glob(f"{folder}/*/{name}.json"))]
        for folder in ("chapters", "ledger")
    )
    tables = {name for path in summaries for name in json.loads(path.read_text())["questions"]}
    files = [path for name in sorted(tables) for path in sorted((results / name).glob("*"))]
    files += [*summaries, *rows, *sorted(results.glob(f"{chapter}.*"))]
    again = {name: said for name, said in read_json(results / REPRODUCED).items() if name in tables}
    said = [repr(sorted(again.items())).encode()] if again else []
    return [path.relative_to(results).as_posix().encode() + path.read_bytes() for path in files] + said


def _digest(*parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part if isinstance(part, bytes) else repr(part).encode()).digest())
    return digest.hexdigest()[:DIGITS]
