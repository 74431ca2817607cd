"""The chapter on robustness: one place for the vision transformer, and a row of the ledger as soon as there is one."""

import json

import pytest

import lmclib as lmc
from lmclib.book.measuring import measure

SMALL = {"profile": "smoke", "model": "mlp-6", "epochs": 1, "seeds": 2, "mlp_epochs": 1, "transformer_epochs": 1}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Any network will do in the place of the transformer."""
    return measure("robustness", {**SMALL, "store": str(tmp_path_factory.mktemp("store")), "transformer": "mlp-4"})


def test_with_a_transformer_a5_is_judged_on_every_recipe_with_fresh_draws_and_on_the_usual_one_along_lines_too(found):
    (row,) = found["transformer_rows"]
    assert row["claim"] == "A5"
    names = [part["name"].rpartition(";")[0] for part in row["parts"]]
    fresh = [f"{case}; fresh draws" for case in ("high rate", "low rate", "RandAugment", "sharpness-aware")]
    assert sorted(names) == sorted([*fresh, "high rate; line draws"])
    recipes = {name: own["recipe"] for name, own in found["cases"].items()}
    assert recipes["low rate"].lr == recipes["high rate"].lr / 10
    assert recipes["sharpness-aware"].rho == 0.1
    assert found["cases"]["RandAugment"]["data"] == "digits+randaugment"
    table = found["transformers"]
    assert set(table["into"]) == {"1", "2"}
    assert set(table.split) == {"test"}


def test_all_rows_are_there(found):
    rows = found["step_rows"] + found["noise_rows"]
    assert {row["claim"]: len(row["parts"]) for row in rows} == {"A6": 8, "A7": 4}
    assert all("fit" in row for row in rows)


@pytest.mark.parametrize("profile", lmc.ROBUSTNESS)
def test_the_profiles_transformer_is_none_or_a_network_that_can_be_built(profile):
    name = lmc.ROBUSTNESS[profile]["transformer"]
    assert not name or lmc.build_model(name, (1, 8, 8), 10)


def test_rows_of_the_profiles_own_parameters_are_written_down(book):
    rows = json.loads((book / "store" / "ledger" / "smoke" / "robustness.json").read_text())
    assert {"A5", "A6", "A7"} <= set(rows)
