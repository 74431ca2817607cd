"""What a remembered table answers: a question in plain values, and the code that was asked."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from lmclib.code.fingerprint import code_fingerprint
from lmclib.files import read_addressed, read_json
from lmclib.store.address import address
from lmclib.store.roots import Code


@dataclass(frozen=True)
class Question:
    """What is asked of whom: the description of a table, and the code that computes it.

    Attributes:
        description: plain values, `kind` among them: the question in words that a later version of the code would ask, too.
        code: the code that decides the answer, that of the networks that are measured included.
        networks: model, data and seed of what is measured, for listings; they decide nothing here, as the description has it all.
    """

    description: Mapping[str, object]
    code: Code
    networks: tuple[Mapping[str, object], ...] = ()

    @classmethod
    def of(
        cls,
        function: Callable,
        options: Mapping[str, object],
        about: Mapping[str, object] | None = None,
        roots: Sequence[Callable] = (),
        parts: Sequence[Code] = (),
        networks: Sequence[Mapping[str, object]] = (),
    ) -> "Question":
        """The question that a function answers, given its options by name; what is left out has its default.

        Args:
            function: what computes the table.
            options: plain values.
            about: what else the table depends on, in plain values.
            roots: further functions that take part.
            parts: the code that made what is measured.
            networks: what is measured, for listings.
        """
        plain = function.func if isinstance(function, partial) else function
        kind = plain.__name__
        description = {"kind": kind, **(about or {}), **_with_defaults(function, options)}
        if not plain.__module__.startswith("lmclib."):
            # a reader's own function may have any name, so it is told apart by its code
            description["by"] = code_fingerprint(function)
        return cls(description, Code((function, *roots), tuple(parts)), tuple(networks))

    @property
    def kind(self) -> str:
        """What is asked for, in a word."""
        return str(self.description["kind"])

    @cached_property
    def name(self) -> str:
        """The address among committed results: that of the question alone, so that later code finds an earlier answer."""
        return address(self.description)

    @cached_property
    def address(self) -> str:
        """The address in a store: that of the question and the code."""
        return address({"question": self.name, "code": self.code.fingerprint})

    @property
    def made_by(self) -> dict[str, object]:
        """What is written down beside the answer: the code, the networks, and the question's own name."""
        networks = [one for i, one in enumerate(self.networks) if one not in self.networks[:i]]
        return {**self.code.made_by, "networks": networks, "question": self.name}


@dataclass(frozen=True)
class Answer:
    """A table that was computed before, the folder where it was found, and what is written down there of where it comes from."""

    folder: Path
    table: pd.DataFrame
    made: Mapping[str, object]

    @classmethod
    def within(cls, folder: Path) -> "Answer | None":
        """The answer in a folder; None where there is none, or a damaged one, which is set aside with a warning."""
        table = read_addressed(folder, "table", "parquet", pd.read_parquet)
        return None if table is None else cls(folder, table, read_json(folder / "provenance.json"))

    def is_by(self, code: Code) -> bool:
        """Whether this very code computed it."""
        return self.made.get("code") == code.fingerprint


def _with_defaults(function: Callable, options: Mapping[str, object]) -> dict[str, object]:
    """Options with the function's defaults for those that are not given."""
    taken = inspect.signature(function).parameters.values()
    defaults = {p.name: p.default for p in taken if p.default is not p.empty}
    return {**defaults, **options}
