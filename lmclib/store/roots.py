"""The roots of the code that decides a result: named, so that they are found again and compared with today's code."""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from operator import attrgetter

from tqdm.auto import tqdm

from lmclib.code.fingerprint import code_fingerprint
from lmclib.errors import LmcError
from lmclib.store.address import address, canonical

# what a comparison with today's code comes to
SAME, DIFFERS, UNWRITTEN, UNKNOWN = "same", "differs", "not written down", "cannot be compared"
NAME = re.compile(r"(lmclib(?:\.\w+)+):([^\W\d]\w*(?:\.\w+)*)(\(.*\))?")  # of a root of this library


@dataclass(frozen=True)
class Code:
    """All code that decides a result: what some functions reach, and what made the networks that they are given.

    Attributes:
        roots: functions, classes or partials of them.
        parts: the code that made what is measured.
    """

    roots: tuple[Callable, ...]
    parts: tuple["Code", ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Changes when, and only when, code that the roots reach changes."""
        parts = sorted({part.fingerprint for part in self.parts})
        return address({"code": code_fingerprint(*self.roots), "parts": parts})

    @property
    def made_by(self) -> dict[str, object]:
        """What is written down beside a result: the fingerprint as `code`, the names of its `roots`, and of its `parts` the same."""
        parts = {part.fingerprint: part.made_by for part in self.parts}
        return {"code": self.fingerprint, "roots": [root_name(root) for root in self.roots], "parts": [*parts.values()]}

    @classmethod
    def today(cls, made: Mapping) -> "Code":
        """Today's code at the roots that were written down, of which nothing is run.

        Raises:
            LmcError: one of them is no longer there, or is not of this library.
        """
        if "roots" not in made:
            raise LmcError("its functions were not written down")
        return cls(tuple(map(find_root, made["roots"])), tuple(map(cls.today, made.get("parts", ()))))


def root_name(root: Callable) -> str:
    """`module:name` of a function or class; of a partial, with what it is given.

    Example:
        >>> from lmclib.networks.build import initialise, model_factory
        >>> root_name(initialise), root_name(model_factory("mlp-5"))
        ('lmclib.networks.build:initialise', "lmclib.networks.mlp:MLP(widths=(5,), activation='relu')")
    """
    if isinstance(root, partial):
        given = [*map(repr, root.args), *(f"{name}={value!r}" for name, value in root.keywords.items())]
        return f"{root_name(root.func)}({', '.join(given)})"
    return f"{root.__module__}:{getattr(root, '__qualname__', repr(root))}"


def find_root(name: str) -> Callable:
    """The function, class or partial that `root_name` gave a name; nothing is called.

    Raises:
        LmcError: it is no longer there, or is not of this library.

    Example:
        >>> find_root("lmclib.networks.mlp:MLP(widths=(5,), activation='relu')").keywords
        {'widths': (5,), 'activation': 'relu'}
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise LmcError(f"{name} is not of this library")
    module, attribute, given = match.groups()
    try:
        found = attrgetter(attribute)(import_module(module))
    except (ImportError, AttributeError):
        raise LmcError(f"{module}:{attribute} is no longer there") from None
    return found if given is None else _given(found, name, given)


def _given(function: Callable, name: str, given: str) -> partial:
    """A partial of plain values, from how they are written in Python."""
    try:
        call = ast.parse(f"partial{given}", mode="eval").body
        if not isinstance(call.func, ast.Name):  # a call of what is called
            raise ValueError
        keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        return partial(function, *map(ast.literal_eval, call.args), **keywords)
    except (SyntaxError, ValueError, TypeError, AttributeError):
        raise LmcError(f"{name} is given more than plain values") from None


def compare_code(made: Iterable[Mapping], progress: bool = True) -> list[tuple[str, str]]:
    """Results compared with today's code: `same`, `differs`, `not written down` or `cannot be compared`, each with what there is to say.

    Args:
        made: what was written down beside each of them.
        progress: whether to show a progress bar, where it takes more than a second.
    """
    known: dict[str, tuple[str, str]] = {}  # many results are made by the same code
    found = []
    for one in tqdm(list(made), desc="compare code", unit="result", disable=not progress, delay=1, leave=False):
        key = canonical({name: one.get(name) for name in ("code", "roots", "parts")})
        if key not in known:
            known[key] = _compared(one)
        found.append(known[key])
    return found


def _compared(made: Mapping) -> tuple[str, str]:
    if "code" not in made:
        return UNWRITTEN, "made by code that was not written down"
    try:
        same = Code.today(made).fingerprint == made["code"]
    except LmcError as error:
        return UNKNOWN, f"cannot be compared: {error}"
    return (SAME, "made by today's code") if same else (DIFFERS, "made by other code than today's")
