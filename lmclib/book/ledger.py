"""The ledger's rows: written down by the chapters that judge them, and put together for the page that shows them all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from lmclib.book.profiles import COMMITTED
from lmclib.book.settings import Settings
from lmclib.claims.catalogue import CLAIMS, FIGURES
from lmclib.claims.verdicts import Part, verdict
from lmclib.errors import LmcError
from lmclib.files import read_json, write_text
from lmclib.locks import locked
from lmclib.root import from_root
from lmclib.store.dry_run import current_dry_run
from lmclib.store.results import committed_results

FOLDER = "ledger"  # in a store and among the results, with a folder a profile
NOT_RUN = "not run"
PLAIN = "float32"  # the precision that goes without saying


def judge(claim: str, parts: Sequence[Part], scale: str, settings: Settings, chapter: str, fit: str = "") -> dict:
    """Judge a claim by its parts; write its row down if the chapter ran with its profile's own parameters.

    A rerun with other parameters is an experiment of its reader's: it shows its rows and leaves the book's alone.

    Args:
        claim: the claim's ID.
        parts: what was measured of it.
        scale: model, data and length of the runs.
        settings: the chapter's settings; the row goes to their store.
        chapter: the chapter's name.
        fit: whether the networks fit their training data, from `fit_said`; empty where there are none.

    Returns:
        The row, in plain values: what `lmclib.charts.ledger.cards` shows.

    Raises:
        LmcError: an unknown claim, or nothing to judge.
    """
    if claim not in CLAIMS:
        raise LmcError(f"claim={claim!r}: must be one of {', '.join(CLAIMS)}")
    if not parts:
        raise LmcError(f"claim={claim!r}: has no part to judge")
    precision = getattr(settings, "precision", PLAIN)
    own = {
        "claim": claim,
        "parts": [part.as_row() for part in parts],
        "scale": ", ".join(filter(None, (scale, f"in {precision}" * (precision != PLAIN), settings.other_forks))),
        "figure": FIGURES.get((claim, chapter), FIGURES.get(claim, "")),
    }
    own |= {"fit": fit} if fit else {}
    row = {**own, "chapter": chapter, "profile": settings.profile}
    if (dry := current_dry_run()) is not None:
        dry.judged.append(row)
    elif not settings.overridden:
        _note(rows_path(from_root(settings.store), settings.profile, chapter), row)
    return row


def _note(path: Path, row: Mapping[str, object]) -> None:
    """Write a row down in place of an earlier one of its claim; where it is there, nothing, as a store may be read-only."""
    row = json.loads(json.dumps(row))
    if read_json(path).get(row["claim"]) == row:
        return
    with locked(path.with_suffix(".lock"), f"the ledger of {path.stem}"):
        write_text(path, json.dumps({**read_json(path), row["claim"]: row}, indent=1, ensure_ascii=False))


def rows_path(folder: Path, profile: str, chapter: str) -> Path:
    """Where a chapter's rows are, in a store or among the results."""
    return folder / FOLDER / profile / f"{chapter}.json"


def rows(store: str | Path, profile: str) -> list[dict]:
    """What was judged at this profile, and at larger scales among the committed results: a row a claim and scale, as `judge` wrote it."""
    larger = [committed_results() / FOLDER / scale for scale in COMMITTED if scale != profile]
    folders = [from_root(store) / FOLDER / profile, *larger]
    found = [row for folder in folders for path in sorted(folder.glob("*.json")) for row in read_json(path).values()]
    order = list(CLAIMS)
    known = (row for row in found if row.get("claim") in CLAIMS and "parts" in row)  # earlier versions wrote other rows
    return sorted(known, key=lambda row: order.index(row["claim"]))


def parts_in(row: Mapping[str, object]) -> list[Part]:
    """The parts of a row."""
    return [Part(**part) for part in row["parts"]]


def part_table(found: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Rows as a table, a row a part, for notebooks and for the files beside the ledger's page."""
    table = []
    for row in found:
        for part in parts_in(row):
            low, high = part.interval
            control = part.control_interval
            table.append(
                {
                    "claim": row["claim"],
                    "part": part.name,
                    "verdict": part.verdict,
                    "mean": sum(part.values) / len(part.values),
                    "low": low,
                    "high": high,
                    "unit": part.unit,
                    "claimed": f"{part.side} {part.threshold:g}",
                    "same verdict from": part.thresholds[0],
                    "to": part.thresholds[1],
                    "control": part.rival,
                    "control low": control[0] if control else None,
                    "control high": control[1] if control else None,
                    "n": len(part.values),
                    "profile": row["profile"],
                    "scale": row["scale"],
                    "fit": row.get("fit", ""),
                    "chapter": row["chapter"],
                }
            )
    return pd.DataFrame(table)


def table(store: str | Path, profile: str) -> pd.DataFrame:
    """Every claim in order, and each scale at which it was run: `claim`, `paper`, `where`, `says`, `rule`, `objection`, `verdict`, …"""
    return claim_table(rows(store, profile), list(CLAIMS))


def claim_table(found: Sequence[Mapping[str, object]], claims: Sequence[str]) -> pd.DataFrame:
    """Claims as a table, a row a claim and scale at which it was run, or one that says that it was not."""
    by_claim: dict[str, list] = {}
    for row in found:
        by_claim.setdefault(row["claim"], []).append(row)
    return pd.DataFrame(
        {
            "claim": claim.id,
            "paper": claim.paper,
            "link": claim.link,
            "where": claim.where,
            "says": claim.says,
            "rule": claim.rule,
            "objection": claim.objection,
            "verdict": verdict(parts_in(row)) if row else NOT_RUN,
            "parts": parts_in(row) if row else [],
            **{name: row.get(name, "") for name in ("profile", "scale", "fit", "chapter", "figure")},
        }
        for claim in map(CLAIMS.get, claims)
        for row in by_claim.get(claim.id, [{}])
    )
