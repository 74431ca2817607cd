"""A chapter's parameters: the profile's values, overridden by the reader's, checked before any compute."""

import ast
import html
from collections.abc import Collection, Mapping
from itertools import takewhile
from types import ModuleType
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lmclib.data.clients import SplitName
from lmclib.device import Precision, compute_quietly
from lmclib.errors import LmcError
from lmclib.root import RUNS, from_root


def _listed(value: Any) -> Any:
    """Papermill's `-p` hands over a list as the string that was typed."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise ValueError("must be a list of numbers such as [0, 0.5, 2]") from None
    return [value] if isinstance(value, int | float) else value


def _names_listed(value: Any) -> Any:
    """One name is a list of one; a list of names may come as the string that was typed."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "(")):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise ValueError("must be a name or a list of names such as ['body', 'head']") from None
    return [value] if isinstance(value, str) else value


Epoch = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Concentration = Annotated[float, Field(gt=0, allow_inf_nan=False)]
StepLength = Annotated[float, Field(ge=0, allow_inf_nan=False)]


# lists that must not hold anything twice, and what they hold
UNIQUE = {
    **dict.fromkeys(("fork_epochs", "rates", "minima", "beta", "sigma"), "number"),
    **dict.fromkeys(("split", "averaged"), "name"),
}


class Values(BaseModel):
    """Every parameter that any chapter takes, with what is allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: str
    store: str = Field(min_length=1)
    model: str = Field("", min_length=1)
    data: str = Field("", min_length=1)
    fork_epochs: Annotated[tuple[Epoch, ...], Field(min_length=1), BeforeValidator(_listed)] = ()
    epochs: int | None = Field(0, ge=1)
    siblings: int = Field(0, ge=1)
    seed: int = Field(0, ge=0)
    seeds: int = Field(1, ge=1)
    lr: float | None = Field(0, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(0, ge=0, allow_inf_nan=False)
    precision: Precision = "float32"
    examples: int = Field(1, ge=1)
    few_examples: int = Field(1, ge=1)
    rates: Annotated[tuple[Rate, ...], Field(min_length=1), BeforeValidator(_listed)] = ()
    networks: int = Field(0, ge=1)
    stack: int = Field(0, ge=1)
    steps: int = Field(0, ge=1)
    checkpoints: Annotated[tuple[str, ...], Field(max_length=2), BeforeValidator(_listed)] = ()
    clients: int = Field(0, ge=2)
    split: Annotated[tuple[SplitName, ...], Field(min_length=1), BeforeValidator(_names_listed)] = ()
    beta: Annotated[tuple[Concentration, ...], Field(min_length=1), BeforeValidator(_listed)] = ()
    averaged: Annotated[tuple[str, ...], BeforeValidator(_names_listed)] = ()
    rounds: int = Field(0, ge=1)
    local_epochs: int = Field(0, ge=1)
    batch_size: int = Field(0, ge=1)
    momentum: float = Field(0, ge=0, lt=1)
    keep_momentum: bool = False
    augment: bool = True
    pair_lr: float = Field(0, gt=0, allow_inf_nan=False)
    sigma: Annotated[tuple[StepLength, ...], Field(min_length=1), BeforeValidator(_listed)] = ()
    draws: int = Field(2, ge=2)  # one of them is the others' control
    mlp_epochs: int = Field(1, ge=1)
    transformer: str = ""
    transformer_lr: float = Field(0, gt=0, allow_inf_nan=False)
    transformer_epochs: int = Field(1, ge=1)
    minima: Annotated[tuple[float, ...], Field(min_length=2), BeforeValidator(_listed)] = ()


class Settings:
    """The resolved parameters of a chapter: attributes by name, a table when shown.

    Args:
        values: the parameters.
        given: the names of those that the reader gave.
        profiles: the names of the scales that the chapter has.
    """

    def __init__(self, values: Mapping[str, Any], given: set[str], profiles: Collection[str] = ()):
        self._given, self._values, self._profiles = given, dict(values), tuple(profiles)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(f"this chapter has no parameter {name!r}; it has {', '.join(self._values)}")
        return self._values[name]

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that the chapter has."""
        return tuple(self._values)

    @property
    def overridden(self) -> set[str]:
        """The parameters that the reader gave; where runs are stored is not one that changes a result."""
        return self._given - {"store"}

    @property
    def other_forks(self) -> str:
        """The forks in words, where the reader gave them; empty where they are the profile's."""
        return (
            f"forks {', '.join(f'{fork:g}' for fork in self.fork_epochs)}" if "fork_epochs" in self.overridden else ""
        )

    def has_profile(self, name: str) -> bool:
        """Whether the chapter has a scale of this name."""
        return name in self._profiles

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{name}</td><td>{html.escape(str(value))}</td><td>{'given' if name in self._given else 'from the profile'}</td></tr>"
            for name, value in self._values.items()
        )
        return f"<table class='lmc-settings'><thead><tr><th>parameter</th><th>value</th><th>source</th></tr></thead><tbody>{rows}</tbody></table>"

    def __repr__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._values.items())


def parameters(namespace: Mapping[str, Any], profiles: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Resolve and check a chapter's parameters; call it in the first cell after the one tagged `parameters`.

    Args:
        namespace: the notebook's `globals()`. Any variable in it that is no parameter of the chapter is an error: papermill
            itself only warns of an unknown name. Earlier settings in it are taken away, so that nothing runs on them where these
            are refused. In a live notebook parameters can be edited and the cells run again, any number of times.
        profiles: for each profile the values of the chapter's parameters; their names are those that are allowed.

    Raises:
        LmcError: an unknown parameter or profile, or a value out of range, in one line.

    Example:
        >>> parameters({"profile": "digits", "seed": None, "lr": "0.2"}, {"digits": {"seed": 0, "lr": 0.1}}).lr
        0.2
    """
    compute_quietly()
    _forget_settings(namespace)
    names = _names(namespace, {"profile", "store", *Values.model_fields})
    profile = namespace["profile"] if "profile" in names else "digits"
    if profile not in profiles:
        raise LmcError(f"profile={profile!r}: must be one of {', '.join(map(repr, profiles))}")
    allowed = {"profile": profile, "store": RUNS, **profiles[profile]}
    for name in names:
        if name not in allowed:
            raise LmcError(f"{name}={namespace[name]!r}: unknown parameter; this chapter has {', '.join(allowed)}")
    given = {name: namespace[name] for name in names if namespace[name] is not None and name != "profile"}
    values = _validated({**allowed, **given})
    _check(values)
    return Settings(
        {name: values[name] for name in allowed},
        set(given) - ({"store"} if given.get("store") == RUNS else set()),
        profiles,
    )


def checked_value(name: str, value: object) -> object:
    """One parameter's value as a chapter has it, checked by itself.

    Raises:
        LmcError: a value out of range, said without its name.

    Example:
        >>> checked_value("lr", "0.2")
        0.2
    """
    try:
        return _validated({"profile": "", "store": RUNS, name: value})[name]
    except LmcError as error:
        raise LmcError(str(error).removeprefix(f"{name}={value!r}: ")) from None


def _forget_settings(namespace: Mapping[str, Any]) -> None:
    """Take earlier settings away, so that no later cell runs on them where new ones are refused."""
    if isinstance(namespace, dict):
        for name in [name for name, value in namespace.items() if isinstance(value, Settings)]:
            del namespace[name]


def _names(namespace: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """The names that are meant as parameters: in a live notebook all that its parameters cell, as it last ran, sets, and one that
    papermill put in after it, and of what later cells of plain assignments set those that are known; elsewhere all plain variables.
    """
    cells = [_assigned(cell) for cell in namespace.get("In", [])]
    start = next((i for i in reversed(range(len(cells))) if cells[i].get("profile") is ast.AnnAssign), None)
    if start is None:
        return [name for name in namespace if _is_parameter(name, namespace)]
    meant = {name for cell in takewhile(bool, cells[start:]) for name in cell}
    meant |= {name for cell in cells[start:] for name in cell if name in known}
    return [name for name in namespace if name in meant and _is_parameter(name, namespace)]


def _assigned(cell: str) -> dict[str, type[ast.stmt]]:
    """The names that a cell sets and how, if all it does is to set names to plain values."""
    names = {}
    try:
        for node in ast.parse(cell).body:
            (target,) = node.targets if isinstance(node, ast.Assign) else [node.target]
            ast.literal_eval(node.value)
            names[target.id] = type(node)
    except (AttributeError, SyntaxError, ValueError):  # it does something else, too
        return {}
    return names


def _is_parameter(name: str, namespace: Mapping[str, Any]) -> bool:
    value = namespace[name]
    notebook = name in ("In", "Out", "exit", "quit", "get_ipython", "open")
    return not (name.startswith("_") or notebook or isinstance(value, ModuleType) or callable(value))


def _validated(raw: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(Values(**raw))
    except ValidationError as error:
        first = error.errors()[0]
        name = first["loc"][0]
        said = first["msg"].removeprefix("Value error, ").replace("Input should", "must")
        raise LmcError(f"{name}={raw.get(name)!r}: {said}") from None


def _check(values: Mapping[str, Any]) -> None:
    for name, what in UNIQUE.items():
        if len(set(values[name])) < len(values[name]):
            raise LmcError(f"{name}={list(values[name])}: must not hold a {what} twice")
    if values["epochs"] and values["fork_epochs"] and max(values["fork_epochs"]) >= values["epochs"]:
        raise LmcError(
            f"fork_epochs={list(values['fork_epochs'])}: must be below the parent's length, epochs={values['epochs']}"
        )
    if (path := from_root(values["store"])).exists() and not path.is_dir():
        raise LmcError(f"store={values['store']!r}: is a file; must be a folder")
