"""The ledger's rows: written down by the chapters that judge them, and put together for the page that shows them all."""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lmclib.book.profiles import COMMITTED
from lmclib.book.settings import Settings
from lmclib.claims.catalogue import CLAIMS
from lmclib.claims.verdicts import judged
from lmclib.files import read_json, write_text
from lmclib.locks import locked
from lmclib.root import from_root
from lmclib.store.dry_run import current_dry_run
from lmclib.store.results import committed_results

FOLDER = "ledger"  # in a store and among the results, with a folder a profile


def judge(claim: str, *given: object, settings: Settings, chapter: str, **named: object) -> pd.DataFrame:
    """Judge a claim by its rule; write its row down if the chapter ran with its profile's own parameters.

    A rerun with other parameters is an experiment of its reader's: it shows its rows and leaves the book's alone.

    Args:
        claim: the claim's ID.
        *given: what `judged` takes of what was measured.
        settings: the chapter's settings; the row goes to their store.
        chapter: the chapter's name.
        **named: more of it, by name.

    Returns:
        The row, as a table.

    Raises:
        LmcError: an unknown claim, or nothing to judge.
    """
    row = {**judged(claim, *given, **named), "chapter": chapter}
    if (dry := current_dry_run()) is not None:
        dry.judged.append(row)
    elif not settings.overridden:
        _note(rows_path(from_root(settings.store), settings.profile, chapter), row)
    return pd.DataFrame([row])


def _note(path: Path, row: Mapping[str, object]) -> None:
    """Write a row down in place of an earlier one of its claim; where it is there, nothing, as a store may be read-only."""
    if read_json(path).get(row["claim"]) == row:
        return
    with locked(path.with_suffix(".lock"), f"the ledger of {path.stem}"):
        write_text(path, json.dumps({**read_json(path), row["claim"]: row}, indent=1, ensure_ascii=False))


def rows_path(folder: Path, profile: str, chapter: str) -> Path:
    """Where a chapter's rows are, in a store or among the results."""
    return folder / FOLDER / profile / f"{chapter}.json"


def table(store: str | Path, profile: str) -> pd.DataFrame:
    """Every claim in order, with its row where it was run at this profile, or at a larger scale among the committed results."""
    rows: dict[str, list[dict]] = {}
    larger = [committed_results() / FOLDER / scale for scale in COMMITTED if scale != profile]
    for folder in (from_root(store) / FOLDER / profile, *larger):
        for path in sorted(folder.glob("*.json")):
            for claim, row in read_json(path).items():
                rows.setdefault(claim, []).append(row)
    empty = {"verdict": "not run yet", "measured": "", "spread": "", "scale": "", "chapter": "", "figure": ""}
    return pd.DataFrame(
        {"claim": c.id, "paper": c.paper, "where": c.where, "says": c.says, "rule": c.rule, **empty, **row}
        for c in CLAIMS.values()
        for row in rows.get(c.id, [{}])
    )
