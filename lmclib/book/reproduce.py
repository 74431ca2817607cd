"""Committed tables measured again by today's code, from the networks that are committed with them."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from lmclib.book.committed_runs import named_run, summary_path
from lmclib.book.measuring import FOLDER, measured_so_far
from lmclib.device import one_thread
from lmclib.files import read_json, write_text
from lmclib.provenance import provenance
from lmclib.runs.family import Family
from lmclib.store.dry_run import DryRun, NotRun, dry_run
from lmclib.store.results import REPRODUCED, Results, committed_results
from lmclib.store.tables import Answer, Question

# what became of a table: measured now, by today's code before, or not, as a network that it needs is not committed
MEASURED, BEFORE, NO_NETWORKS = "measured", "before", "no networks"


@dataclass(frozen=True)
class Asked:
    """A committed table of other code than today's, and how it is measured."""

    answer: Answer
    question: Question
    compute: Callable[[], pd.DataFrame]


class _Asking(DryRun):
    """A dry run that keeps what is asked for, so that it can be measured afterwards."""

    def __init__(self):
        super().__init__()
        self.asked: dict[str, Asked] = {}

    def table(self, found: Answer | None, question: Question, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        if found is not None and found.folder.parent == committed_results() and not found.is_by(question.code):
            self.asked[question.name] = Asked(found, question, compute)
        return super().table(found, question, compute)


def reproduce(given: Mapping[str, object], progress: bool = True) -> list[dict[str, object]]:
    """Measure every committed table of other code again, as far as the networks that it needs are committed, and compare.

    What today's code measured again before is not measured once more; every comparison is written down as soon as it is made, so
    that a run that was stopped goes on.

    Args:
        given: parameters other than those with which the tables were measured, such as where the data are on this machine.
        progress: whether to show a progress bar.

    Returns:
        For each table: `name`, `chapter`, `kind`, `status` (`measured`, `before` or `no networks`) and what `compare` says.

    Raises:
        LmcError: the data are not here.
    """
    rows = []
    for run, profile in _runs():
        with tempfile.TemporaryDirectory() as store:
            asked = _asked(run, profile, given, store)
            with tqdm(asked, desc=run, unit="table", disable=not progress, leave=False) as bar:
                for one in bar:
                    about = {"name": one.question.name, "chapter": named_run(run)[0], "kind": one.question.kind}
                    rows.append({**about, **_again(one)})
    return rows


def reproduced(name: str, made: Mapping[str, object], today: str) -> dict[str, object] | None:
    """What came of measuring a committed table again by today's code; None where that was not done, or where it was another table.

    Args:
        name: the table's name among the committed results.
        made: what is written down beside it.
        today: the fingerprint of today's code.
    """
    said = _written().get(name)
    return said if said is not None and (said["code"], said["first_code"]) == (today, made.get("code")) else None


def compare(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, object]:
    r"""The largest absolute difference $\max_i |x_i - x'_i|$ between two tables of the same rows, over their columns of numbers.

    Args:
        before: a table.
        after: the same, measured again.

    Returns:
        `difference` and the `column` that has it; `alike`, which is false where the rows or columns are others, or words differ.

    Example:
        >>> one = pd.DataFrame({"layer": ["a", "b"], "loss": [0.5, 0.25]})
        >>> compare(one, one.assign(loss=[0.5, 0.375]))
        {'alike': True, 'difference': 0.125, 'column': 'loss'}
        >>> compare(one, one.iloc[:1])
        {'alike': False, 'difference': None, 'column': None}
    """
    unlike = {"alike": False, "difference": None, "column": None}
    if len(before) != len(after) or list(before.columns) != list(after.columns):
        return unlike
    numbers = [name for name in before if pd.api.types.is_numeric_dtype(before[name])]
    words = [name for name in before if name not in numbers]
    if not before[words].astype(str).equals(after[words].astype(str)):
        return unlike
    if not (before[numbers].isna().to_numpy() == after[numbers].isna().to_numpy()).all():
        return unlike
    largest = (before[numbers].astype(float) - after[numbers].astype(float)).abs().max()
    return {"alike": True, "difference": float(largest.max()), "column": largest.idxmax()}


def said_of_changed(changed: Iterable[tuple[Answer, Question]]) -> str:
    """What a caption says of committed tables of other code: which kinds, and what came of measuring them again; empty for none."""
    again: dict[str, dict[str, dict | None]] = {}
    for answer, question in changed:
        said = reproduced(question.name, answer.made, question.code.fingerprint)
        again.setdefault(question.kind.replace("_", " "), {})[question.name] = said
    if not again:
        return ""
    found = [_said_of_kind(kind, [*tables.values()]) for kind, tables in sorted(again.items())]
    return "; ".join([f"the code of {', '.join(sorted(again))} has changed since", *filter(None, found)])


def _said_of_kind(kind: str, again: Sequence[dict | None]) -> str:
    done = [one for one in again if one is not None]
    if not done:
        return ""
    measured = f"{len(done)} of {len(again)} tables of {kind}, measured again by today's code,"
    if unlike := sum(not one["alike"] for one in done):
        return f"{measured} are other tables in {unlike} cases"
    return f"{measured} differ by at most {max(one['difference'] for one in done):.1g}"


def _runs() -> list[tuple[str, str]]:
    """The runs of chapters that are committed, and the profile of each."""
    return [(path.stem, path.parent.name) for path in sorted(committed_results().glob("chapters/*/*.json"))]


def _asked(run: str, profile: str, given: Mapping[str, object], store: str) -> list[Asked]:
    """The committed tables of a run that other code made; the networks that are committed are copied to a store for them."""
    before = read_json(summary_path(run, profile)).get("given", {})
    own = {name: value for name, value in given.items() if name != "data" or str(before.get("data")).startswith(FOLDER)}
    with dry_run(_Asking()) as found:
        measured_so_far(named_run(run)[0], {**before, **own, "profile": profile, "store": store})
    _lay_out(found.families, Path(store))
    return list(found.asked.values())


def _lay_out(families: Iterable[Family], store: Path) -> None:
    """Put committed networks, whichever code trained them, where today's code looks for them."""
    known = Results(committed_results()).networks()
    for family in families:
        for step in family.fork_steps:
            for sibling in range(family.spec.siblings):
                if (folder := known.get(family.child_name(step, sibling))) is not None:
                    shutil.copytree(folder, store / family.child_address(step, sibling), dirs_exist_ok=True)


def _again(asked: Asked) -> dict[str, object]:
    """Measure one table again, unless today's code did, and write down what came of it."""
    name, today = asked.question.name, asked.question.code.fingerprint
    if (said := reproduced(name, asked.answer.made, today)) is not None:
        return {"status": BEFORE, **said}
    start = time.monotonic()
    try:
        with dry_run(), one_thread():  # which trains nothing
            table = asked.compute()
    except NotRun:
        return {"status": NO_NETWORKS}
    said = {
        **compare(asked.answer.table, table),
        "code": today,
        "first_code": asked.answer.made.get("code"),
        **provenance(time.monotonic() - start),
    }
    text = json.dumps({**_written(), name: said}, indent=1, sort_keys=True)
    write_text(committed_results() / REPRODUCED, f"{text}\n")
    return {"status": MEASURED, **said}


def _written() -> dict[str, dict]:
    """What came of measuring tables again, by their names."""
    return read_json(committed_results() / REPRODUCED)
