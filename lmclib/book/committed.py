"""The committed results as a list: which chapter shows each table, where it comes from, and whether today's code made it."""

from collections.abc import Mapping

from lmclib.book.reproduce import reproduced
from lmclib.files import read_json
from lmclib.store.inventory import Entry, entries
from lmclib.store.results import committed_results
from lmclib.store.roots import DIFFERS, Code, compare_code


def list_results(progress: bool = False) -> list[dict[str, object]]:
    """Every committed table: chapter, kind, model, data, seeds as far as they are known, hardware, date, commit, hours and size.

    Args:
        progress: whether to show a progress bar, where it takes more than a second.
    """
    chapters = _chapters()
    return [_row(entry, chapters) for entry in entries(committed_results(), progress)]


def check_results(progress: bool = False) -> list[dict[str, object]]:
    """Every committed table with `code`, which is `same`, `differs`, `not written down` or `cannot be compared`, and that in words;
    and what came of measuring it again by today's code (`reproduced`), or None.

    Args:
        progress: whether to show a progress bar, where it takes more than a second.
    """
    chapters, here = _chapters(), entries(committed_results(), progress)
    compared = compare_code([entry.made for entry in here], progress)
    rows = []
    for entry, (status, said) in zip(here, compared, strict=True):
        row = _row(entry, chapters)
        about = {name: row[name] for name in ("name", "chapters", "kind", "commit")}
        rows.append(
            {**about, "code": status, "said": said, "reproduced": _reproduced(entry) if status == DIFFERS else None}
        )
    return rows


def _row(entry: Entry, chapters: Mapping[str, list[str]]) -> dict[str, object]:
    known, made = entry.row, entry.made
    return {
        "name": entry.address,
        "chapters": chapters.get(entry.address, []),
        **{name: known[name] for name in ("kind", "model", "data", "seeds")},
        "hardware": made.get("hardware", ""),
        "date": known["date"],
        "commit": made.get("commit", ""),
        "hours": made.get("seconds", 0) / 3600,
        "size": known["size"],
    }


def _reproduced(entry: Entry) -> dict[str, object] | None:
    return reproduced(entry.address, entry.made, Code.today(entry.made).fingerprint)


def _chapters() -> dict[str, list[str]]:
    """The chapters that show each table, or use each network, by its name."""
    found: dict[str, list[str]] = {}
    for path in sorted(committed_results().glob("chapters/*/*.json")):
        summary = read_json(path)
        for name in [*summary.get("questions", []), *summary.get("networks", [])]:
            found.setdefault(name, []).append(summary["chapter"])
    return found
