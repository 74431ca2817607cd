"""A chapter's results at every scale: those just measured, those that are committed, and how they are packed to travel."""

import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

from tqdm.auto import tqdm

from lmclib.book.committed_runs import named_run, run_name, runs, summary_path
from lmclib.book.ledger import rows_path
from lmclib.book.measuring import FOLDER, chapter_settings, measured_so_far, measuring_chapters
from lmclib.book.profiles import COMMITTED
from lmclib.book.reproduce import said_of_changed
from lmclib.book.settings import Settings
from lmclib.data.load import data_label
from lmclib.errors import LmcError
from lmclib.files import find_addressed, read_json, write_text
from lmclib.provenance import hardware
from lmclib.root import ROOT, RUNS, from_root
from lmclib.runs.checkpoints import step_name
from lmclib.runs.family import Family
from lmclib.store.dry_run import DryRun, dry_run
from lmclib.store.results import CARDS, committed_results
from lmclib.store.results import Results as CommittedResults

SCALES = {"paper": "Paper scale", "cifar": "Real images", "digits": "Embedded data"}  # what tabs call the profiles
MOST_BYTES = 25_000_000  # of all committed results, which everyone who clones the book downloads
MOST_OF_NETWORKS = 6_000_000  # of these


# by the settings of the chapter that looked it up: what was found at other scales, as its figures all ask for it
_looked_up: WeakKeyDictionary[Settings, dict] = WeakKeyDictionary()


@dataclass(frozen=True)
class Results:
    """A chapter's variables at some scale, and what a reader must know of them: data, hardware, seeds.

    Attributes:
        tables: the variables that the measuring cells left behind.
        said: the caption.
    """

    tables: Mapping[str, object]
    said: str


def results_by_scale(chapter: str, tables: Mapping[str, object], needed: str) -> dict[str, Results]:
    """A chapter's results at every scale at which it has some, the largest first, by the names of the scales.

    Args:
        chapter: its name.
        tables: what its measuring cells have just left behind, its `globals()`.
        needed: the variable that a figure is drawn from: what comes after it may be missing.
    """
    settings = tables["settings"]
    here = Results(tables, f"{_what(tables)}; {hardware()}")
    own = SCALES.get(settings.profile, SCALES["digits"])
    others = [scale for scale in COMMITTED if settings.has_profile(scale) and SCALES[scale] != own]
    found = {scale: find_results(chapter, scale, settings.store, needed, settings) for scale in others}
    if missing := [SCALES[scale].lower() for scale, results in found.items() if results is None]:
        how = f" (`lmclib plan {chapter}` says what that would take)" if tables.get("families") else ""
        here = Results(tables, f"{here.said}; not run on the scales {' and '.join(missing)}{how}")
    by_name = {own: here, **{SCALES[scale]: results for scale, results in found.items() if results is not None}}
    return {name: by_name[name] for name in SCALES.values() if name in by_name}


def find_results(
    chapter: str, profile: str, store: str | Path = RUNS, needed: str | None = None, asked_by: Settings | None = None
) -> Results | None:
    """A chapter's results at a profile, committed or in a store, of as many seeds as are finished; None where not one is.

    Nothing is computed. A run with other parameters that is committed beside the chapter's own answers where that one lacks the variable.

    Args:
        chapter: its name.
        profile: the scale.
        store: a store that may have what is not committed.
        needed: the variable that must be there, whatever else is missing; all by default.
        asked_by: the settings of a chapter that asks again and again: what was looked up for them is kept with them.
    """
    return next(_found(chapter, profile, store, needed, asked_by), None)


def results_of_runs(chapter: str, tables: Mapping[str, object], needed: str) -> list[Results]:
    """A chapter's results at scales other than its own, of every run that has a variable: its own run, and those with other parameters
    that are committed beside it.

    Args:
        chapter: its name.
        tables: what its measuring cells have just left behind, its `globals()`.
        needed: the variable.
    """
    settings = tables["settings"]
    others = [scale for scale in COMMITTED if settings.has_profile(scale) and scale != settings.profile]
    return [results for scale in others for results in _found(chapter, scale, settings.store, needed, settings)]


def _found(
    chapter: str, profile: str, store: str | Path, needed: str | None, asked_by: Settings | None
) -> Iterator[Results]:
    """Of each run of a chapter at a profile what it has, of as many seeds as have what is needed."""
    kept = {} if asked_by is None else _looked_up.setdefault(asked_by, {})
    for run in runs(chapter, profile):
        given = {"profile": profile, "store": str(store), **_summary(run, profile).get("given", {})}
        for seeds in _seed_counts(chapter, given):
            at = run, profile, *seeds.values()
            if at not in kept:
                with dry_run() as found:
                    kept[at] = *measured_so_far(chapter, {**given, **seeds}), found
            tables, missing, found = kept[at]
            if missing and needed not in tables:
                continue
            said = f"{_what(tables)}; {caption(summarise(run, found, profile, {}))}"
            yield Results(tables, "; ".join(filter(None, (said, said_of_changed(found.changed)))))
            break


def _seed_counts(chapter: str, given: Mapping[str, object]) -> list[dict[str, int]]:
    """The parameter that says how many seeds, from all that a profile has down to one; none where a chapter has no such."""
    seeds = getattr(chapter_settings(chapter, given), "seeds", None)
    return [{}] if seeds is None else [{"seeds": n} for n in range(seeds, 0, -1)]


def _what(tables: Mapping[str, object]) -> str:
    """The profile, networks, data and seeds of results."""
    settings, families = tables["settings"], tables.get("families")
    if not families:
        return _what_without_families(settings, tables.get("by_network", {}))
    seeds = [family.spec.seed for family in families]
    precision = "" if families[0].spec.precision == "float32" else f" in {families[0].spec.precision}"
    trained = f"{settings.model} on {families[0].card.label}, {settings.epochs} epochs{precision}"
    said = f"Profile {settings.profile}: {trained}; seeds {min(seeds)} to {max(seeds)}"
    return "; ".join(filter(None, (said, settings.other_forks)))


def _what_without_families(settings: Settings, by_network: Mapping[str, list[Family]]) -> str:
    """The profile and the seeds, and the networks of a chapter that trains some of several kinds, or by itself."""
    last = settings.seed + getattr(settings, "seeds", 1) - 1
    seeds = f"seeds {settings.seed} to {last}" if last > settings.seed else f"seed {settings.seed}"
    of_each = [f"{name} on {own[0].card.label}, {own[0].spec.recipe.epochs} epochs" for name, own in by_network.items()]
    one = [f"{settings.model} on {data_label(settings.data)}"] if hasattr(settings, "model") else []
    trained = "; ".join(of_each or one)
    return f"Profile {settings.profile}{': ' if trained else ''}{trained}; {seeds}"


def pack(
    chapter: str, given: Mapping[str, object], store: str | Path, profile: str = "paper", beside: str = ""
) -> dict[str, object]:
    """Copy a chapter's finished tables to the committed results, one by one, and the ledger's rows of as many seeds as are finished.

    Args:
        chapter: its name.
        given: parameters other than those of the profile, where the run had such.
        store: where the tables are.
        profile: the scale.
        beside: the name of a run that is kept beside the chapter's own: it answers, and is judged, where that one has nothing.

    Returns:
        The summary, with `missing`: what is not measured yet.

    Raises:
        LmcError: nothing is finished, the results would grow above 25 MB, or another profile is among the parameters.
    """
    if given.get("profile", profile) != profile:
        raise LmcError(
            f"profile={given['profile']!r}: is a scale, not a parameter here; say --profile {given['profile']}"
        )
    store, results = from_root(store), committed_results()
    tables, families, judged, missing, finished = {}, {}, [], "", False
    for seeds in reversed(_seed_counts(chapter, {"profile": profile, "store": str(store), **given})):
        with dry_run() as found:
            _, left = measured_so_far(chapter, {"profile": profile, "store": str(store), **given, **seeds})
        judged, finished = found.judged or judged, finished or left is None
        missing = missing or str(left or "")
        tables |= dict.fromkeys(found.tables)
        families |= {id(family): family for family in found.families}
    if not tables:
        raise LmcError(f"chapter={chapter!r}: is not finished ({missing}); go on with `lmclib measure {chapter}`")
    new = [folder for folder in tables if folder.parent != results]
    size = sum(path.stat().st_size for top in (results, *new) for path in top.rglob("*") if path.is_file())
    if size > MOST_BYTES:
        raise LmcError(
            f"results={str(results)!r}: would hold {size / 1e6:.1f} MB; must be at most {MOST_BYTES / 1e6:g} MB"
        )
    found.tables, found.families = list(tables), list(families.values())
    # what is finished stays in the book, such as a part of the forks, until all that was asked for is
    run = run_name(chapter, beside)
    shown = _anywhere(given) if finished else _summary(run, profile).get("given", _anywhere(given))
    summary = summarise(run, found, profile, shown)
    for folder in new:
        target = results / read_json(folder / "provenance.json")["question"]
        shutil.rmtree(target, ignore_errors=True)  # an answer of earlier code
        shutil.copytree(folder, target)
    summary["networks"] = _pack_networks(families.values(), results)
    if families:
        _merge(results / CARDS, {family.card.label: family.card.model_dump() for family in families.values()})
    own = read_json(rows_path(results, profile, chapter)) if beside else {}
    of_run = {"profile": profile, **({"run": beside} if beside else {})}
    if new_rows := {row["claim"]: {**row, **of_run} for row in judged if row["claim"] not in own}:
        _merge(rows_path(results, profile, run), new_rows)
    write_text(summary_path(run, profile), json.dumps(summary, indent=1))
    return {**summary, "missing": missing}


def _anywhere(given: Mapping[str, object]) -> dict[str, object]:
    """Parameters without a path of this machine: a folder within the repository from there, any other by its name alone."""
    data = str(given.get("data", ""))
    if not data.startswith(FOLDER):
        return dict(given)
    path = Path(data.removeprefix(FOLDER))
    if not path.is_absolute():  # as it was packed before
        return dict(given)
    return {**given, "data": f"{FOLDER}{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}"}


def _pack_networks(families: Collection[Family], results: Path) -> list[str]:
    """Copy the final siblings of the first and the last fork of each experiment, those of the first seeds first, while there is room:
    so a reader's first cube needs no training, and what the next measure asks of them can still be measured.

    Returns:
        The addresses of those that are committed, now or before.
    """
    committed = CommittedResults(results).networks()
    found = set()
    for family in sorted(families, key=lambda family: family.spec.seed):
        for step in {family.fork_steps[0], family.fork_steps[-1]}:
            for k in range(2):
                if (known := committed.get(family.child_name(step, k))) is not None:
                    found.add(known.name)
                elif _pack_network(family, step, k, results):
                    found.add(family.child_address(step, k))
                else:
                    break
    return sorted(found)


def _pack_network(family: Family, step: int, sibling: int, results: Path) -> bool:
    """Copy a final checkpoint, with what is written down of it, if there is one and room for it; whether it is there."""
    at = family.child_address(step, sibling)
    if (results / at).exists():
        return True
    path = find_addressed(family.store.root / at, step_name(family.checkpoint_steps(step)[-1]), "safetensors")
    here = sum(other.stat().st_size for other in results.glob("*/*.safetensors"))
    # of a pair both or none, as one alone has no barrier
    if path is None or here + (2 - sibling) * path.stat().st_size > MOST_OF_NETWORKS:
        return False
    (results / at).mkdir(parents=True)
    for file in (path, path.parent / "run.json", path.parent / "provenance.json"):
        shutil.copy(file, results / at)
    return True


def pack_all(store: str | Path, profile: str = "paper") -> dict[str, str]:
    """`pack` every chapter of which something is finished; what became of each, by name."""
    said = {}
    every = [run for chapter in measuring_chapters() for run in runs(chapter, profile)]
    for run in tqdm(every, desc="pack", unit="chapter", delay=1, leave=False):
        chapter, beside = named_run(run)
        try:
            said[run] = said_of(pack(chapter, _summary(run, profile).get("given", {}), store, profile, beside))
        except LmcError as error:
            said[run] = str(error)
    return said


def said_of(summary: Mapping[str, object]) -> str:
    """What was packed, and what is missing, in a line."""
    missing = f"; still missing: {summary['missing']}" if summary["missing"] else ""
    return f"{len(summary['questions'])} tables, {caption(summary)}{missing}"


def summarise(run: str, found: DryRun, profile: str, given: Mapping[str, object]) -> dict[str, object]:
    """Where a run's tables and networks come from: data, seeds, hardware, commits, dates and seconds."""
    beside = {folder: read_json(folder / "provenance.json") for folder in dict.fromkeys(found.tables)}
    tables = [made for made in beside.values() if made]
    committed = CommittedResults(committed_results()).networks()
    folders = {name: (here, committed.get(name)) for family in found.families for name, here in _folders(family)}
    networks = {
        name: signed
        for name, those in folders.items()
        if (signed := next(filter(None, (read_json(folder / "provenance.json") for folder in those if folder)), None))
    }
    before = _summary(run, profile)
    # other networks stay where they were trained: what is written down of them is known there, and from the summary elsewhere
    trained = {**before.get("trained", {}), **{name: _of_training(one) for name, one in networks.items()}}
    packed = {name for name in before.get("questions", []) if (committed_results() / name).exists()}
    made = [*tables, *trained.values()]
    return {
        "chapter": named_run(run)[0],
        "profile": profile,
        "given": dict(given) or before.get("given", {}),
        "data": sorted({family.card.label for family in found.families}),
        "seeds": sorted({network["seed"] for one in tables for network in one.get("networks", [])}),
        "hardware": sorted({one["hardware"] for one in made}),
        "commits": sorted({one["commit"] for one in made}),
        "dates": sorted({one["date"] for one in made}),
        "torch": sorted({one["packages"]["torch"] for one in made}),
        "questions": sorted(
            {made.get("question", folder.name) for folder, made in beside.items()} | packed
        ),  # tables' names
        "trained": trained,  # each network, by what it is
        # a summary of before those of each were written down has no more than their sum
        "training_seconds": max(
            round(sum(one["seconds"] for one in trained.values())), before.get("training_seconds", 0)
        ),
        "measuring_seconds": round(sum(one["seconds"] for one in tables)),
    }


def _of_training(signed: Mapping[str, object]) -> dict[str, object]:
    """What a summary keeps of how a network was trained."""
    kept = {name: signed[name] for name in ("commit", "date", "hardware")}
    return {**kept, "packages": {"torch": signed["packages"]["torch"]}, "seconds": round(signed["seconds"], 1)}


def caption(summary: Mapping[str, object]) -> str:
    """Where results come from, in a line."""
    minutes = f"{summary['training_seconds'] / 60:.1f} + {summary['measuring_seconds'] / 60:.1f} minutes of training and measuring"
    when = f"until {summary['dates'][-1]}, commit {', '.join(summary['commits'])}" if summary["dates"] else "undated"
    return f"{' and '.join(summary['hardware'])}, PyTorch {' and '.join(summary['torch'])}, {minutes} {when}"


def _summary(run: str, profile: str) -> dict:
    return read_json(summary_path(run, profile))


def _folders(family: Family) -> list[tuple[str, Path]]:
    """What the parent and the children of a family are, whichever code trained them, and where the store has those of today's."""
    steps, siblings, top = family.fork_steps, range(family.spec.siblings), family.store.root
    children = [(family.child_name(step, k), top / family.child_address(step, k)) for step in steps for k in siblings]
    return [(family.parent_name, top / family.parent_address), *children]


def _merge(path: Path, new: Mapping) -> None:
    write_text(path, json.dumps({**read_json(path), **new}, indent=1, ensure_ascii=False))
