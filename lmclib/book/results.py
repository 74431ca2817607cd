"""A chapter's results at every scale: those just measured, those that are committed, and how they are packed to travel."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from lmclib.book.ledger import rows_path
from lmclib.book.measuring import measure, measuring_chapters
from lmclib.errors import LmcError
from lmclib.files import read_json, write_text
from lmclib.provenance import hardware
from lmclib.root import RUNS, from_root
from lmclib.runs.family import Family
from lmclib.store.dry_run import DryRun, NotRun, dry_run
from lmclib.store.results import CARDS, committed_results

SCALES = {"paper": "Paper scale", "digits": "Embedded data"}  # what tabs call the profiles
MOST_BYTES = 25_000_000  # of all committed results, which everyone who clones the book downloads


@dataclass(frozen=True)
class Results:
    """A chapter's variables at some scale, and what a reader must know of them: data, hardware, seeds.

    Attributes:
        tables: the variables that the measuring cells left behind.
        said: the caption.
    """

    tables: Mapping[str, object]
    said: str


def results_by_scale(chapter: str, tables: Mapping[str, object]) -> dict[str, Results]:
    """A chapter's results at every scale at which it has some, the largest first, by the names of the scales.

    Args:
        chapter: its name.
        tables: what its measuring cells have just left behind, its `globals()`.
    """
    settings = tables["settings"]
    here = Results(tables, f"{_what(tables)}; {hardware()}")
    if settings.profile == "paper":
        return {SCALES["paper"]: here}
    if (paper := find_results(chapter, "paper", settings.store)) is not None:
        return {SCALES["paper"]: paper, SCALES["digits"]: here}
    missing = f"; at paper scale it was not run (`lmclib plan {chapter}` says what that would take)"
    return {SCALES["digits"]: Results(tables, here.said + missing)}


def find_results(chapter: str, profile: str, store: str | Path = RUNS) -> Results | None:
    """A chapter's results at a profile, committed or in a store; None where something is missing. Nothing is computed."""
    given = {"profile": profile, "store": str(store), **_summary(chapter).get("given", {})}
    try:
        with dry_run() as found:
            tables = measure(chapter, given)
    except NotRun:
        return None
    said = f"{_what(tables)}; {caption(summarise(chapter, found, {}))}"
    changed = (
        f"; the code of {', '.join(sorted(found.changed)).replace('_', ' ')} has changed since" if found.changed else ""
    )
    return Results(tables, said + changed)


def _what(tables: Mapping[str, object]) -> str:
    """The profile, networks, data and seeds of results."""
    settings, families = tables["settings"], tables.get("families")
    if not families:
        return f"Profile {settings.profile}; seed {settings.seed}"
    seeds = [family.spec.seed for family in families]
    trained = f"{settings.model} on {families[0].card.label}, {settings.epochs} epochs"
    return f"Profile {settings.profile}: {trained}; seeds {min(seeds)} to {max(seeds)}"


def pack(chapter: str, given: Mapping[str, object], store: str | Path) -> dict[str, object]:
    """Copy a chapter's finished tables and ledger rows to the committed results, with their provenance; returns the summary.

    Args:
        chapter: its name.
        given: parameters other than those of profile `paper`, where the run had such.
        store: where the tables are.

    Raises:
        LmcError: something is missing, or the results would grow above 25 MB.
    """
    store, results = from_root(store), committed_results()
    try:
        with dry_run() as found:
            measure(chapter, {"profile": "paper", "store": str(store), **given})
    except NotRun as missing:
        raise LmcError(
            f"chapter={chapter!r}: is not finished ({missing}); go on with `lmclib measure {chapter}`"
        ) from None
    new = [folder for folder in dict.fromkeys(found.tables) if folder.parent != results]
    size = sum(path.stat().st_size for top in (results, *new) for path in top.rglob("*") if path.is_file())
    if size > MOST_BYTES:
        raise LmcError(
            f"results={str(results)!r}: would hold {size / 1e6:.1f} MB; must be at most {MOST_BYTES / 1e6:g} MB"
        )
    summary = summarise(chapter, found, given)
    for folder in new:
        target = results / read_json(folder / "provenance.json")["question"]
        shutil.rmtree(target, ignore_errors=True)  # an answer of earlier code
        shutil.copytree(folder, target)
    cards = {family.card.label: family.card.model_dump() for family in found.families}
    if cards:
        _merge(results / CARDS, cards)
    if rows := read_json(rows_path(store, "paper", chapter)):
        _merge(rows_path(results, "paper", chapter), rows)
    write_text(results / f"{chapter}.json", json.dumps(summary, indent=1))
    return summary


def pack_all(store: str | Path) -> dict[str, str]:
    """`pack` every chapter that is finished; what became of each, by name."""
    said = {}
    for chapter in tqdm(measuring_chapters(), desc="pack", unit="chapter", delay=1, leave=False):
        try:
            said[chapter] = caption(pack(chapter, _summary(chapter).get("given", {}), store))
        except LmcError as error:
            said[chapter] = str(error)
    return said


def summarise(chapter: str, found: DryRun, given: Mapping[str, object]) -> dict[str, object]:
    """Where a chapter's tables and networks come from: data, seeds, hardware, commits, dates and seconds."""
    beside = {folder: read_json(folder / "provenance.json") for folder in dict.fromkeys(found.tables)}
    tables = [made for made in beside.values() if made]
    runs = {at: family.store for family in found.families for at in _addresses(family)}
    networks = [signed for at, store in runs.items() if (signed := read_json(store.root / at / "provenance.json"))]
    before = _summary(chapter)
    made = tables + networks
    return {
        "chapter": chapter,
        "given": dict(given) or before.get("given", {}),
        "data": sorted({family.card.label for family in found.families}),
        "seeds": sorted({family.spec.seed for family in found.families}),
        "hardware": sorted({one["hardware"] for one in made}),
        "commits": sorted({one["commit"] for one in made}),
        "dates": sorted({one["date"] for one in made}),
        "torch": sorted({one["packages"]["torch"] for one in made}),
        "questions": sorted(made.get("question", folder.name) for folder, made in beside.items()),  # the tables' names
        # the networks themselves stay where they were trained: their times are known there, and from the summary elsewhere
        "training_seconds": round(sum(one["seconds"] for one in networks)) or before.get("training_seconds", 0),
        "measuring_seconds": round(sum(one["seconds"] for one in tables)),
    }


def caption(summary: Mapping[str, object]) -> str:
    """Where results come from, in a line."""
    minutes = f"{summary['training_seconds'] / 60:.1f} + {summary['measuring_seconds'] / 60:.1f} minutes of training and measuring"
    when = f"until {summary['dates'][-1]}, commit {', '.join(summary['commits'])}" if summary["dates"] else "undated"
    return f"{', '.join(summary['hardware'])}, PyTorch {', '.join(summary['torch'])}, {minutes} {when}"


def _summary(chapter: str) -> dict:
    return read_json(committed_results() / f"{chapter}.json")


def _addresses(family: Family) -> list[str]:
    steps, siblings = family.fork_steps, range(family.spec.siblings)
    return [family.parent_address, *(family.child_address(step, k) for step in steps for k in siblings)]


def _merge(path: Path, new: Mapping) -> None:
    write_text(path, json.dumps({**read_json(path), **new}, indent=1, ensure_ascii=False))
