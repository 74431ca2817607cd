"""The language of sweeps: what is valid survives a round trip, what is not is refused with its path."""

import json
from functools import partial
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lmclib as lmc
from lmclib.book.sweep_spec import MEASURES, read_sweep, sweep_of, sweep_points
from lmclib.errors import LmcError
from lmclib.root import ROOT

EXAMPLE = ROOT / "tests" / "book" / "rates.yaml"
FORK = {"fork": {"model": "mlp-8", "epochs": 2, "fork_epochs": [0]}, "measure": "barrier_curve"}
CHAPTER = {"chapter": "resnet_forking", "profile": "smoke"}


def points(said):
    return sweep_points(sweep_of(said), Path("/here"))


def refused(said):
    """The lines of what is said of a wrong one."""
    with pytest.raises(LmcError) as error:
        points(said)
    return str(error.value).splitlines()


def test_the_example_is_valid():
    found = sweep_points(read_sweep(EXAMPLE), EXAMPLE.parent)
    assert [tuple(point.swept.items()) for point in found] == [
        (("lr", lr), ("seed", seed)) for lr in (0.1, 0.05) for seed in (0, 1)
    ]
    assert found[0].given["model"] == "mlp-8"


def test_every_public_measure_of_a_cube_can_be_asked_for():
    import inspect

    measures = [getattr(lmc, name) for name, file in lmc.PUBLIC.items() if file.startswith("measures.")]
    of_cubes = [
        one for one in measures if inspect.isfunction(one) and next(iter(inspect.signature(one).parameters)) == "cube"
    ]
    assert set(of_cubes) == set(MEASURES.values())


def test_values_are_what_the_parameters_make_of_them():
    (one,) = points({**FORK, "grid": {"lr": ["1e-3"]}})
    assert one.swept == {"lr": 0.001}
    one, two = points({**CHAPTER, "grid": {"fork_epochs": ["[0, 1]", 0]}})
    assert (one.swept["fork_epochs"], two.swept["fork_epochs"]) == ([0, 1], [0])


def test_paths_are_meant_from_the_current_folder():
    (one,) = points({**CHAPTER, "list": [{"data": "folder:birds"}]})
    assert one.given["data"] == "folder:/here/birds"


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        ([], ["spec: must be a mapping with either chapter or fork"]),
        ({**FORK, **CHAPTER}, ["spec: must be a mapping with either chapter or fork"]),
        (FORK, ["grid: a sweep needs either grid or list"]),
        ({**FORK, "grid": {"lr": [1]}, "list": [{"lr": 1}]}, ["grid: a sweep needs either grid or list"]),
        ({**FORK, "grid": {"lr": []}}, ["grid.lr: list should have at least 1 item after validation, not 0"]),
        ({**FORK, "grid": {"lr": [0.1, -1]}}, ["grid.lr[1]: must be greater than 0"]),
        (
            {**FORK, "grid": {"lr": [0.1], "seed": [0, True]}},
            ["grid.seed[1]: must be a number, text, or a list of them"],
        ),
        ({**FORK, "grid": {"lr": [float("inf")]}}, ["grid.lr[0]: must be finite"]),
        ({**FORK, "grid": {"lr": [None]}}, ["grid.lr[0]: must be a number, text, or a list of them"]),
        ({**FORK, "grid": {"seed": 3}}, ["grid.seed: must be a valid list"]),
        ({**FORK, "grid": {"seed": [*range(10_001)]}}, ["grid: has 10,001 points; must have at most 10,000"]),
        ({**FORK, "grid": {"seed": [0, 1, 0]}}, ["grid.seed[2]: is the same point as grid.seed[0]"]),
        ({**FORK, "grid": {"epochs": [3, 4]}}, ["grid.epochs: is given in fork, too"]),
        ({**FORK, "list": [{"lr": 1}, {"seed": 1}]}, ["list[1]: must have the parameters of list[0]: lr"]),
        ({**FORK, "list": [{"lr": 1, "seed": -1}]}, ["list[0].seed: must be greater than or equal to 0"]),
        ({**FORK, "list": [{"lr": 1}, {"lr": 1.0}]}, ["list[1]: is the same point as list[0]"]),
        (
            {**FORK, "measure": {"name": "barrier_curv"}, "grid": {"lr": [1]}},
            [f"measure.name: must be one of {', '.join(MEASURES)}"],
        ),
        (
            {**FORK, "measure": {"name": "barrier_curve", "options": {"alpha": 3}}, "grid": {"lr": [1]}},
            ["measure.options.alpha: unknown option; barrier_curve has alphas"],
        ),
        (
            {**FORK, "measure": "window_barriers", "grid": {"lr": [1]}},
            ["measure.options.width: is missing; window_barriers needs it"],
        ),
        (
            {**FORK, "measure": {"split": "all", "tests": 1}, "grid": {"lr": [1]}},
            [
                "measure.name: is missing",
                "measure.split: must be 'train' or 'test'",
                "measure.tests: is no part of such a sweep",
            ],
        ),
        ({**FORK, "table": "final", "grid": {"lr": [1]}}, ["table: is no part of such a sweep"]),
        ({"fork": {}, "grid": {"lr": [1]}}, ["measure: is missing"]),
        (
            {
                "fork": {"epochs": 2},
                "measure": "barrier_curve",
                "grid": {"fork_epochs": [[0], [0, 3]], "batch_size": [32, 5000]},
            },
            [
                "grid.batch_size[1]: must be at most the 1437 training examples",
                "grid.fork_epochs[1]: 3 is out of range; must be at least 0 and below the parent's 2 epochs",
            ],
        ),
        ({"chapter": "nowhere", "grid": {"lr": [1]}}, None),
        (
            {**CHAPTER, "profile": "big", "grid": {"lr": [1]}},
            ["profile: must be one of 'smoke', 'digits', 'cifar', 'paper'"],
        ),
        (
            {**CHAPTER, "parameters": {"lr": 0}, "grid": {"seed": [0, -1], "examples": ["few"]}},
            [
                "parameters.lr: must be greater than 0",
                "grid.seed[1]: must be greater than or equal to 0",
                "grid.examples[0]: must be a valid integer, unable to parse string as an integer",
            ],
        ),
        (
            {**CHAPTER, "grid": {"epochs": [2, 1]}},
            ["grid.epochs[1]: fork_epochs=[0.0, 0.5, 1.0]: must be below the parent's length, epochs=1"],
        ),
        (
            {**CHAPTER, "grid": {"profile": ["smoke", "huge"]}},
            ["grid.profile[1]: must be one of 'smoke', 'digits', 'cifar', 'paper'"],
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_path(said, lines):
    found = refused(said)
    if lines is None:
        assert found[0].startswith("chapter: must be one of architectures, beyond_second_order, ")
    else:
        assert sorted(found) == sorted(lines)


def test_an_unknown_parameter_is_said_with_those_that_there_are():
    assert refused({**FORK, "grid": {"learning_rate": [1]}})[0].startswith(
        "grid.learning_rate[0]: unknown parameter; a fork has model, data,"
    )
    (line,) = refused({**CHAPTER, "grid": {"store": ["elsewhere"]}})
    assert line.startswith("grid.store[0]: unknown parameter; this chapter has profile, model,")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fork: {", "is no valid YAML"),
        ("fork: {lr: 1, lr: 2}", "'lr' is given twice, in line 1"),
        ("fork: !!python/object/apply:os.mkdir [touched]", "is no valid YAML"),
        ("[" * 5000, "is no valid YAML"),
    ],
)
def test_a_file_that_is_none_is_one_line(text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(LmcError, match=said) as error:
        read_sweep(path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "touched").exists()
    with pytest.raises(LmcError, match=r"nowhere\.yaml: cannot be read \(No such file or directory\)"):
        read_sweep(tmp_path / "nowhere.yaml")


# what each parameter of a fork may be, and what it may not
GOOD = {
    "lr": st.floats(1e-6, 10),
    "momentum": st.floats(0, 0.99),
    "weight_decay": st.floats(0, 1),
    "seed": st.integers(0, 2**31),
    "siblings": st.integers(2, 5),  # every two are measured
    "batch_size": st.integers(1, 1437),
    "epochs": st.integers(1, 500),
    "schedule": st.sampled_from(["step", "cosine", "constant"]),
    "precision": st.sampled_from(["float32", "bf16"]),
    "model": st.sampled_from(["mlp-8", "mlp-4-4-tanh", "resnet8-w4", "resnet20-w8-none"]),
    "milestones": st.lists(st.floats(0, 100), max_size=3),
}
BAD = {
    "lr": st.floats(max_value=0, allow_infinity=False) | st.sampled_from(["fast", "", [0.1]]),
    "momentum": st.floats(1, 9) | st.just("x"),
    "weight_decay": st.floats(max_value=-1e-9, allow_infinity=False),
    "seed": st.integers(max_value=-1) | st.just(1.5) | st.just("one"),
    "siblings": st.integers(max_value=1),
    "batch_size": st.integers(max_value=0) | st.just([32]),
    "epochs": st.integers(max_value=0) | st.just(0.5),
    "schedule": st.sampled_from(["steps", "", 1]),
    "precision": st.sampled_from(["float16", 32]),
    "model": st.sampled_from(["mlp", "resnet9", "", 8]),
    "milestones": st.sampled_from(["early", 3, ["x"]]),
}
NAMES = sorted(GOOD)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def specs(draw):
    """A valid sweep of a fork, as plain values."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    cut = draw(st.integers(1, len(names)))
    swept, fixed = names[:cut], names[cut:]
    said = {"fork": {"fork_epochs": [0], **{name: draw(GOOD[name]) for name in fixed}}}
    if draw(st.booleans()):
        same = {"max_size": 3, "unique_by": str}
        said["grid"] = {name: draw(st.lists(GOOD[name], min_size=1, **same)) for name in swept}
    else:
        each = st.fixed_dictionaries({name: GOOD[name] for name in swept})
        said["list"] = draw(
            st.lists(each, min_size=1, max_size=4, unique_by=lambda point: json.dumps(point, sort_keys=True))
        )
    measure = draw(st.sampled_from(sorted(MEASURES)))
    needs = {
        "window_barriers": {"width": 2},
        "random_set_barriers": {"size": 2},
        "group_barriers": {"groups": {"a": ["0"]}},
    }
    needs["predict_group_barriers"] = needs["group_barriers"]
    said["measure"] = {
        "name": measure,
        "split": draw(st.sampled_from(["train", "test"])),
        "options": needs.get(measure, {}),
    }
    return said


def dumped(sweep):
    return sweep.model_dump(mode="json", by_alias=True)


@QUICK
@given(specs())
def test_a_valid_sweep_survives_a_round_trip(tmp_path_factory, said):
    sweep = sweep_of(said)
    path = tmp_path_factory.mktemp("spec") / "spec.yaml"
    expected = [(dict(point.swept), dict(point.given)) for point in sweep_points(sweep, path.parent)]
    for write in (partial(yaml.safe_dump, sort_keys=False), json.dumps):  # the order is that of the points
        path.write_text(write(dumped(sweep)))
        again = read_sweep(path)
        assert again == sweep
        found = sweep_points(again, path.parent)
        assert [(dict(point.swept), dict(point.given)) for point in found] == expected


@QUICK
@given(specs(), st.data())
def test_a_wrong_value_is_refused_with_its_path(said, data):
    places = [("fork", name) for name in said["fork"] if name in BAD]
    places += [("grid", name, i) for name, values in said.get("grid", {}).items() for i in range(len(values))]
    places += [("list", i, name) for i, point in enumerate(said.get("list", [])) for name in point]
    place = data.draw(st.sampled_from(places))
    *way, last = place
    where = said
    for step in way:
        where = where[step]
    (name,) = [part for part in place if part in BAD]
    where[last] = data.draw(BAD[name])
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)[1:]
    lines = refused(said)
    assert [line for line in lines if line.startswith(f"{path}: ")], (path, lines)
    assert len(lines) == 1


@QUICK
@given(specs(), st.sampled_from(["fork", "grid", "list", "measure", ""]), st.text("abcxyz_", min_size=3, max_size=9))
def test_a_wrong_name_is_refused_with_its_path(said, where, name):
    at = said if not where else said.get(where, said)
    if isinstance(at, list):
        for point in at:
            point[name] = 1
    else:
        at[name] = [1] if where == "grid" else 1
    assert any(name in line.split(": ")[0] for line in refused(said))
