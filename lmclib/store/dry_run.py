"""Dry runs: looking results up without computing any, and what was met on the way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import pandas as pd

from lmclib.errors import LmcError
from lmclib.store.tables import Answer, Question


class NotRun(LmcError):
    """Something is neither among the committed results nor in the store, and may not be computed now."""


class DryRun:
    """Looking things up without computing any, and what was met on the way.

    Attributes:
        families: the forking experiments.
        measurements: what was to be measured of pairs of networks, whether it is remembered or not.
        tables: the folders of the tables.
        changed: the tables that other code than today's computed, and the questions that they answer.
        judged: the rows of the ledger, as far as they could be judged.
    """

    def __init__(self):
        self.families: list = []
        self.measurements: list = []
        self.tables: list[Path] = []
        self.changed: list[tuple[Answer, Question]] = []
        self.judged: list[dict] = []

    def meet(self, family: object) -> None:
        """A forking experiment is being planned."""
        self.families.append(family)

    def table(self, found: Answer | None, question: Question, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A table is asked for, which was computed before or not.

        Raises:
            NotRun: it is not.
        """
        if found is None:
            raise NotRun(f"{question.kind}: not measured yet")
        self.tables.append(found.folder)
        if not found.is_by(question.code):
            self.changed.append((found, question))
        return found.table


_current: ContextVar[DryRun | None] = ContextVar("dry_run", default=None)


@contextmanager
def dry_run(how: DryRun | None = None) -> Iterator[DryRun]:
    """Within this context nothing is trained, measured or written: what is missing raises `NotRun`."""
    how = DryRun() if how is None else how
    token = _current.set(how)
    try:
        yield how
    finally:
        _current.reset(token)


def current_dry_run() -> DryRun | None:
    """The dry run that is going on, or None where things may be computed."""
    return _current.get()
