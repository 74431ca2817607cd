"""What is remembered is found by everything that decides it, and by nothing else."""

import importlib
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import lmclib as lmc
from lmclib.data.load import load_data
from lmclib.errors import LmcError
from lmclib.runs.pairs import sibling_pairs
from lmclib.store.dry_run import NotRun, dry_run
from lmclib.store.store import Store

RECIPE = lmc.Recipe(epochs=1, batch_size=128, milestones=())
SPEC = lmc.ForkSpec(model="mlp-8", fork_epochs=(0,), siblings=2, recipe=RECIPE)
FACTORY = """
from torch import nn


def net(shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.{activation}(), nn.Linear(8, n_classes))
"""


@pytest.fixture
def pairs(tmp_path):
    return sibling_pairs([lmc.fork(SPEC, tmp_path / "store", progress=False)])


def answer(pairs, measure, **options):
    return lmc.over_pairs(pairs, measure, progress=False, **options).answer.item()


def test_two_functions_of_one_name_never_share_a_table(pairs):
    def barrier_curve(cube, alphas=25):
        return pd.DataFrame({"answer": [alphas]})

    assert answer(pairs, lambda cube: pd.DataFrame({"answer": [1]})) == 1
    assert answer(pairs, lambda cube: pd.DataFrame({"answer": [2]})) == 2
    assert len(lmc.over_pairs(pairs, lmc.barrier_curve, progress=False)) == 25
    assert answer(pairs, barrier_curve) == 25
    assert len(lmc.over_pairs(pairs, lmc.barrier_curve, progress=False)) == 25


def test_what_a_measure_takes_from_around_it_counts(pairs):
    factor = 2

    def scaled(cube):
        return pd.DataFrame({"answer": [factor]})

    assert answer(pairs, scaled) == 2
    factor = 3
    assert answer(pairs, scaled) == 3


def test_a_changed_default_is_another_question(pairs):
    def make(default):
        def measure(cube, width=default):
            return pd.DataFrame({"answer": [width]})

        return measure

    assert [answer(pairs, make(default)) for default in (1, 2)] == [1, 2]
    assert answer(pairs, make(1), width=5) == 5


def test_the_same_question_is_asked_once(pairs):
    def chance(cube, n=1):
        return pd.DataFrame({"answer": [torch.rand(()).item()]})

    assert answer(pairs, chance, n=1) == answer(pairs, chance) == answer(pairs, chance, n=1)
    assert answer(pairs, chance, n=2) != answer(pairs, chance, n=1)


def test_options_that_are_no_plain_values_are_refused(pairs):
    with pytest.raises(LmcError, match="options: must be plain values"):
        lmc.over_pairs(pairs, lmc.barrier_curve, progress=False, alphas=np.linspace(0, 1, 3))


def test_a_readers_model_that_was_edited_is_trained_anew(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    spec, losses = SPEC.model_copy(update={"model": "reader_net:net"}), {}
    for activation in ("ReLU", "Tanh", "ReLU"):
        (tmp_path / "reader_net.py").write_text(FACTORY.format(activation=activation))
        sys.modules.pop("reader_net", None)
        importlib.invalidate_caches()
        family = lmc.fork(spec, tmp_path / "store", progress=False)
        losses.setdefault(activation, []).append(family.cube(0)(0.0).loss.item())
    assert losses["ReLU"][0] == losses["ReLU"][1] != losses["Tanh"][0]


def images(root, grey):
    for split in ("train", "test"):
        for name, shade in (("dark", grey), ("light", 200)):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for i in range(4):
                picture = np.full((8, 8, 3), shade + i, dtype=np.uint8)
                Image.fromarray(picture).save(root / split / name / f"{i}.png")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("lmclib.data.folder.DECODED", str(tmp_path / "decoded"))
    monkeypatch.setattr("lmclib.store.results.RESULTS", str(tmp_path / "committed"))
    images(tmp_path / "private" / "Greys", 10)
    return tmp_path / "private" / "Greys"


def test_a_folder_whose_pixels_changed_is_another_data_set(folder, tmp_path):
    """Also while the card of what it was is committed, which holds no path of anybody's."""
    spec = SPEC.model_copy(
        update={"data": f"folder:{folder}", "recipe": RECIPE.model_copy(update={"batch_size": 4}), "model": "mlp-4"}
    )
    family = lmc.fork(spec, tmp_path / "store", progress=False)
    loss = family.cube(0)(0.0).loss
    card = {family.card.label: family.card.model_dump()}
    (tmp_path / "committed").mkdir()
    (tmp_path / "committed" / "data.json").write_text(json.dumps(card))
    assert "private" not in json.dumps(card)
    assert card.keys() == {"Greys"}
    images(folder, 90)
    load_data.cache_clear()
    other = lmc.fork(spec, tmp_path / "store", progress=False)
    assert other.card.fingerprint != family.card.fingerprint
    assert other.child_address(0, 0) != family.child_address(0, 0)
    assert other.cube(0)(0.0).loss != loss


def test_a_card_finds_results_where_the_data_are_not(folder, tmp_path):
    store = Store(tmp_path / "store")
    card = store.data_card(f"folder:{folder}")
    (tmp_path / "committed").mkdir()
    (tmp_path / "committed" / "data.json").write_text(json.dumps({card.label: card.model_dump()}))
    elsewhere = f"folder:{tmp_path / 'not here' / 'Greys'}"
    assert Store(tmp_path / "other").data_card(elsewhere) == card
    spec = SPEC.model_copy(
        update={"data": elsewhere, "recipe": RECIPE.model_copy(update={"batch_size": 4}), "model": "mlp-4"}
    )
    with dry_run():
        (family,) = lmc.fork_all([spec], tmp_path / "other")
        with pytest.raises(NotRun, match="mlp-4 on Greys: not trained yet"):
            family.child(0, 0)
    (family,) = lmc.fork_all([spec], tmp_path / "other", progress=False)
    with pytest.raises(LmcError, match="must hold one folder of images per class"):
        family.child(0, 0)


def test_a_folder_is_decoded_once(folder, monkeypatch):
    load_data(f"folder:{folder}")
    load_data.cache_clear()
    monkeypatch.setattr("lmclib.data.folder._decode_part", lambda *_: pytest.fail("decoded again"))
    data = load_data(f"folder:{folder}")
    assert data.train.x[:, 0, 0, 0].tolist() == [10, 11, 12, 13, 200, 201, 202, 203]
    assert data.train.y.tolist() == [0] * 4 + [1] * 4


def test_augmentation_decides_the_address(tmp_path):
    (family,) = lmc.fork_all([SPEC], tmp_path, progress=False)
    other = lmc.Family(SPEC, Store(tmp_path))
    other.card = family.card.model_copy(update={"shift": 2})
    assert other.child_address(0, 0) != family.child_address(0, 0)
