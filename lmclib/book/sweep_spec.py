"""The language of sweeps: a chapter or a fork, and the values of its parameters, checked as a whole before anything starts."""

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import isfinite, prod
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lmclib.book.measuring import absolute_paths, chapter_settings
from lmclib.book.settings import checked_value
from lmclib.errors import LmcError
from lmclib.measures.barriers import alpha_grid, barrier_curve
from lmclib.measures.controls import parameter_set_barriers, random_set_barriers
from lmclib.measures.geometry import layer_distances
from lmclib.measures.layerwise import (
    cumulative_barriers,
    group_barriers,
    layer_barriers,
    layer_table,
    pair_barriers,
    set_table,
    single_layer_table,
    staircase_table,
    window_barriers,
)
from lmclib.measures.perturbation import perturbation_table
from lmclib.measures.predictions import (
    cost_table,
    energy_predictions,
    predict_curve,
    predict_group_barriers,
    predict_layer_barriers,
    prediction_table,
)
from lmclib.networks.build import model_factory
from lmclib.runs.family import Family
from lmclib.runs.spec import ForkSpec
from lmclib.store.dry_run import dry_run
from lmclib.store.store import Store
from lmclib.training.recipe import Recipe

MOST_POINTS = 10_000  # of one sweep: more are a slip of the pen
MEASURES: dict[str, Callable[..., pd.DataFrame]] = {
    measure.__name__: measure
    for measure in (
        barrier_curve,
        layer_barriers,
        layer_table,
        cumulative_barriers,
        group_barriers,
        window_barriers,
        pair_barriers,
        perturbation_table,
        set_table,
        single_layer_table,
        staircase_table,
        layer_distances,
        parameter_set_barriers,
        random_set_barriers,
        predict_curve,
        predict_layer_barriers,
        predict_group_barriers,
        prediction_table,
        energy_predictions,
        cost_table,
    )
}
FORK = [name for name in ForkSpec.model_fields if name != "recipe"]
RECIPE = list(Recipe.model_fields)
SAID = re.compile(r"(?P<name>[\w.]+)(?:=.*?)?: (?P<said>.*)", re.DOTALL)  # how an error names its parameter


def _plain(value: Any) -> Any:
    """A parameter's value as YAML, JSON and the columns of a table hold it."""
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, float) and not isfinite(item) for item in items):
        raise ValueError("must be finite")
    if not all(isinstance(item, int | float | str) and not isinstance(item, bool) for item in items):
        raise ValueError("must be a number, text, or a list of them")
    return value


def _jsonable(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        raise ValueError("must be plain values: numbers, text, lists and mappings of them") from None


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Plain = Annotated[Any, AfterValidator(_plain)]
Values = dict[str, Plain]


class Measure(BaseModel):
    """What is measured of every two siblings: a measure of a cube, of what, and with which options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    split: Literal["train", "test"] = "train"
    norm_stats: Literal["interpolate", "recompute"] = "interpolate"
    examples: int | None = Field(None, ge=1)
    epochs: list[int] | None = [-1]
    options: Annotated[dict[str, Any], AfterValidator(_jsonable)] = {}

    @property
    def function(self) -> Callable[..., pd.DataFrame]:
        """The measure itself."""
        return MEASURES[self.name]

    def errors(self) -> Iterator[tuple[str, str]]:
        """What is wrong, each with its path."""
        if self.name not in MEASURES:
            yield "measure.name", f"must be one of {', '.join(MEASURES)}"
            return
        _, *taken = inspect.signature(self.function).parameters.values()
        known = [one.name for one in taken]
        for name in self.options:
            if name not in known:
                yield f"measure.options.{name}", f"unknown option; {self.name} has {', '.join(known) or 'none'}"
        for one in taken:
            if one.default is one.empty and one.name not in self.options:
                yield f"measure.options.{one.name}", f"is missing; {self.name} needs it"
        if "alphas" in known and (alphas := self.options.get("alphas")) is not None:
            try:
                alpha_grid(alphas)
            except LmcError as error:
                yield "measure.options.alphas", SAID.fullmatch(str(error))["said"]


@dataclass(frozen=True)
class Point:
    """One point of a sweep: the values that are swept, and all that are given with them."""

    swept: Mapping[str, object]
    given: Mapping[str, object]

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.swept.items())


class Sweep(BaseModel):
    """What all sweeps have: a grid, whose product is swept, or a list of points."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grid: dict[str, Annotated[list[Plain], Field(min_length=1)]] | None = Field(None, min_length=1)
    points_listed: list[Annotated[Values, Field(min_length=1)]] | None = Field(None, min_length=1, alias="list")

    @property
    def fixed(self) -> Values:
        """The parameters that are the same everywhere."""
        raise NotImplementedError

    @property
    def whole(self) -> str:
        """The path of the fixed parameters."""
        raise NotImplementedError

    def check_value(self, name: str, value: object) -> object:
        """A parameter's value by itself, as whoever takes it has it.

        Raises:
            LmcError: an unknown name or a value out of range, said without the name.
        """
        raise NotImplementedError

    def check_given(self, given: Mapping[str, object]) -> None:
        """All parameters of a point together.

        Raises:
            LmcError: they cannot be run.
        """
        raise NotImplementedError

    @cached_property
    def places(self) -> list[dict[str, str]]:
        """Of each point, the path of every value that is swept."""
        if self.grid is not None:
            paths = [[f"grid.{name}[{i}]" for i in range(len(values))] for name, values in self.grid.items()]
            return [dict(zip(self.grid, chosen, strict=True)) for chosen in product(*paths)]
        return [{name: f"list[{i}].{name}" for name in point} for i, point in enumerate(self.points_listed)]

    @cached_property
    def values(self) -> dict[str, object]:
        """Every value that is swept, by its path."""
        if self.grid is not None:
            return {f"grid.{name}[{i}]": v for name, values in self.grid.items() for i, v in enumerate(values)}
        return {f"list[{i}].{name}": v for i, point in enumerate(self.points_listed) for name, v in point.items()}

    def errors(self) -> Iterator[tuple[str, str]]:
        """What is wrong about how the points are given, each with its path."""
        if (self.grid is None) == (self.points_listed is None):
            yield "grid", "a sweep needs either grid or list"
        elif self.grid is not None and (n := prod(map(len, self.grid.values()))) > MOST_POINTS:
            yield "grid", f"has {n:,} points; must have at most {MOST_POINTS:,}"
        elif self.points_listed is not None:
            if len(self.points_listed) > MOST_POINTS:
                yield "list", f"has {len(self.points_listed):,} points; must have at most {MOST_POINTS:,}"
            first = set(self.points_listed[0])
            for i, point in enumerate(self.points_listed):
                if set(point) != first:
                    yield f"list[{i}]", f"must have the parameters of list[0]: {', '.join(self.points_listed[0])}"


class ChapterSweep(Sweep):
    """A chapter, measured at every point; its table is that of its verdicts, or one that its cells leave behind."""

    chapter: str
    profile: str = "digits"
    parameters: Values = {}
    table: str | None = None

    @property
    def fixed(self) -> Values:
        """The parameters that are the same everywhere."""
        return self.parameters

    @property
    def whole(self) -> str:
        """The path of the fixed parameters."""
        return "parameters"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The chapter's parameters.

        Raises:
            LmcError: no such chapter or profile.
        """
        return tuple(
            name for name in chapter_settings(self.chapter, {"profile": self.profile}).names if name != "store"
        )

    def check_value(self, name: str, value: object) -> object:
        """As `Sweep`."""
        if name not in self.names:
            raise LmcError(f"unknown parameter; this chapter has {', '.join(self.names)}")
        return checked_value(name, value)

    def check_given(self, given: Mapping[str, object]) -> None:
        """As `Sweep`."""
        chapter_settings(self.chapter, given)

    def errors(self) -> Iterator[tuple[str, str]]:
        """What is wrong, each with its path."""
        try:
            _ = self.names
        except LmcError as error:
            found = SAID.fullmatch(str(error))
            yield found["name"], found["said"]
            return
        yield from super().errors()


class ForkSweep(Sweep):
    """Forking experiments, trained at every point, and a measure of the cubes between their siblings."""

    fork: Values
    measure: Annotated[Measure, BeforeValidator(_named)]

    @property
    def fixed(self) -> Values:
        """The parameters that are the same everywhere."""
        return self.fork

    @property
    def whole(self) -> str:
        """The path of the fixed parameters."""
        return "fork"

    def check_value(self, name: str, value: object) -> object:
        """As `Sweep`."""
        if name not in (*FORK, *RECIPE):
            raise LmcError(f"unknown parameter; a fork has {', '.join((*FORK, *RECIPE))}")
        model = ForkSpec if name in FORK else Recipe
        try:
            checked = getattr(model(**{name: value}), name)
            if name == "model":
                model_factory(checked)
            if name == "siblings" and checked < 2:
                raise LmcError("siblings: must be at least 2, as every two of them are measured")
        except LmcError as error:
            raise LmcError(SAID.fullmatch(str(error))["said"]) from None
        return checked

    def check_given(self, given: Mapping[str, object]) -> None:
        """As `Sweep`."""
        with dry_run():
            Family(fork_spec(given), Store())

    def errors(self) -> Iterator[tuple[str, str]]:
        """What is wrong, each with its path."""
        yield from self.measure.errors()
        yield from super().errors()


def fork_spec(given: Mapping[str, object]) -> ForkSpec:
    """A forking experiment from its own fields and those of its recipe.

    Example:
        >>> fork_spec({"seed": 3, "lr": 0.2}).recipe.lr
        0.2
    """
    own = {name: value for name, value in given.items() if name in FORK}
    return ForkSpec(**own, recipe=Recipe(**{name: value for name, value in given.items() if name in RECIPE}))


def read_sweep(path: Path) -> Sweep:
    """The sweep that a YAML file describes (JSON is YAML, too); what its points are is not checked yet.

    Raises:
        LmcError: it cannot be read, or says what no sweep has; a line for each mistake, with its path.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LmcError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'no text'})") from None
    try:
        said = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise LmcError(f"{path}: is no valid YAML ({' '.join(str(error).split())})") from None
    return sweep_of(said)


def sweep_of(said: object) -> Sweep:
    """As `read_sweep`, of what was read.

    Example:
        >>> sweep_of({"fork": {"model": "mlp-8"}, "measure": "barrier_curve", "grid": {"lr": [0.1, 0.05]}}).grid
        {'lr': [0.1, 0.05]}
    """
    if not isinstance(said, dict) or ("chapter" in said) == ("fork" in said):
        raise LmcError("spec: must be a mapping with either chapter or fork")
    try:
        return (ChapterSweep if "chapter" in said else ForkSweep).model_validate(said)
    except ValidationError as error:
        raise LmcError("\n".join(f"{_path(one['loc'])}: {_said(one)}" for one in error.errors())) from None


def sweep_points(sweep: Sweep, base: Path) -> list[Point]:
    """The points of a sweep, every one of them checked.

    Args:
        sweep: from `read_sweep`.
        base: where relative paths among the parameters are meant from.

    Raises:
        LmcError: a line for each mistake, with its path.
    """
    errors = dict.fromkeys(sweep.errors())
    if errors:
        raise _all(errors)
    own: dict[str, object] = {}
    for path, name in ((path, _name(path)) for path in sweep.values):
        if name in sweep.fixed:
            errors[path.rpartition("[")[0] if sweep.grid else path, f"is given in {sweep.whole}, too"] = None
    for path, name, value in [
        *((f"{sweep.whole}.{name}", name, value) for name, value in sweep.fixed.items()),
        *((path, _name(path), value) for path, value in sweep.values.items()),
    ]:
        try:
            own[path] = _listed(sweep.check_value(name, value))
        except LmcError as error:
            errors[path, str(error)] = None
    if errors:
        raise _all(errors)
    points, met = [], {}
    base_given = {"profile": sweep.profile} if isinstance(sweep, ChapterSweep) else {}
    for place in sweep.places:
        swept = {name: own[path] for name, path in place.items()}
        fixed = {name: own[f"{sweep.whole}.{name}"] for name in sweep.fixed}
        where = next(iter(place.values())) if sweep.grid is None else " × ".join(place.values())
        where = where.split(".")[0] if sweep.grid is None else where
        key = json.dumps(swept, sort_keys=True)
        if key in met:
            errors[where, f"is the same point as {met[key]}"] = None
            continue
        met[key] = where
        point = Point(swept, absolute_paths({**base_given, **fixed, **swept}, base))
        try:
            sweep.check_given(point.given)
        except LmcError as error:
            errors[_blamed(str(error), place, sweep, where)] = None
            continue
        points.append(point)
    if errors:
        raise _all(errors)
    return points


def _blamed(said: str, place: Mapping[str, str], sweep: Sweep, where: str) -> tuple[str, str]:
    """The path that an error of a whole point belongs to, and what it says."""
    found = SAID.fullmatch(said)
    if found is None:
        return where, said
    name = found["name"]
    if name in place:
        return place[name], found["said"]
    if name in sweep.fixed:
        return f"{sweep.whole}.{name}", found["said"]
    return where, said


def _all(errors: Mapping[tuple[str, str], None]) -> LmcError:
    return LmcError("\n".join(f"{path}: {said}" for path, said in errors))


def _name(path: str) -> str:
    """The parameter at a path of a value that is swept."""
    return path.split(".", 1)[1].split("[")[0] if path.startswith("grid.") else path.split("].", 1)[1]


def _listed(value: object) -> object:
    """Lists as lists, whatever a field makes of them."""
    return list(value) if isinstance(value, tuple) else value


def _said(error: Mapping[str, Any]) -> str:
    """What pydantic says, in the words that are used here."""
    said = error["msg"].removeprefix("Value error, ")
    known = {"Field required": "is missing", "Extra inputs are not permitted": "is no part of such a sweep"}
    said = known.get(said, said.replace("Input should", "must"))
    return said[0].lower() + said[1:] if said.startswith(("Dictionary", "List")) else said


def _path(loc: Sequence[object]) -> str:
    """A path as it is written: `grid.lr[1]`.

    Example:
        >>> _path(("grid", "lr", 1))
        'grid.lr[1]'
    """
    shown = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc if part != "[key]"]
    return "".join(shown).removeprefix(".")


class _Loader(yaml.SafeLoader):
    """YAML without tags that make objects, in which no name may be given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.YAMLError(f"{twice[0]!r} is given twice, in line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


# as in JSON and in today's YAML: numbers, where PyYAML would see text
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)
