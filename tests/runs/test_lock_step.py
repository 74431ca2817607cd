"""How wide a stack few networks train in: never so narrow that a bit changes."""

import pytest
import torch

import lmclib as lmc
from lmclib.runs import joint, lock_step
from lmclib.runs.family import Family
from lmclib.store.store import Store
from lmclib.training import loop
from lmclib.training.loop import JointTraining, Layout

RECIPE = lmc.Recipe(epochs=1, batch_size=128)


def spec_of(model, **recipe):
    return lmc.ForkSpec(model=model, fork_epochs=(0, 0.5), recipe=RECIPE.model_copy(update=recipe))


def fixed(family):
    return Layout.on(torch.device("cpu"), family.card.shape)


# of the second, bits depend on the width on some processors
@pytest.mark.parametrize("model", ["resnet8-w4", "resnet8-w4-none"])
def test_siblings_have_the_bits_of_the_fixed_width(model, tmp_path, monkeypatch):
    found = lmc.fork(spec_of(model), tmp_path / "narrow", progress=False)
    monkeypatch.setattr(joint, "narrowest", lambda family, networks: fixed(family))
    expected = lmc.fork(spec_of(model), tmp_path / "fixed", progress=False)
    for fork in expected.fork_epochs:
        for one, other in zip(found.siblings(fork), expected.siblings(fork), strict=True):
            assert all(one[key].equal(value) for key, value in other.items())


@pytest.mark.parametrize(("networks", "width"), [(1, 2), (2, 2), (3, 4), (5, 8), (9, 8)])
def test_the_width_is_the_least_that_holds_them(networks, width, tmp_path, monkeypatch):
    monkeypatch.setattr(lock_step, "_same", lambda *_: True)
    assert lock_step.narrowest(Family(spec_of("mlp-8"), Store(tmp_path)), networks) == Layout(1, width)


@pytest.mark.parametrize("steps", [({"a": torch.zeros(1)}, {"a": torch.ones(1)}), ({}, {})], ids=["other bits", "none"])
def test_the_width_stays_where_bits_differ_or_nothing_can_be_compared(steps, tmp_path, monkeypatch):
    monkeypatch.setattr(lock_step, "_tried", {})  # else what was found before would be believed
    family, given = Family(spec_of("mlp-8"), Store(tmp_path)), iter(steps * 2)
    monkeypatch.setattr(lock_step, "_first_steps", lambda *_: next(given))
    assert lock_step.narrowest(family, 2) == fixed(family)


def test_a_rate_that_diverges_is_no_reason_to_train_slowly(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_step, "_tried", {})
    wild, tame = (Family(spec_of("mlp-8", lr=lr), Store(tmp_path)) for lr in (1e30, 0.1))
    assert lock_step._compared(wild, Layout(1, 2), fixed(wild)) == lock_step._compared(tame, Layout(1, 2), fixed(tame))


def test_a_width_is_tried_once_for_all_learning_rates(tmp_path, monkeypatch):
    tried, known = [], {}
    monkeypatch.setattr(lock_step, "_tried", known)
    monkeypatch.setattr(lock_step, "_first_steps", lambda family, layout: tried.append(layout) or {"a": torch.zeros(1)})
    for change in ({"lr": 0.1}, {"lr": 0.1}, {"lr": 0.2}, {"batch_size": 64}):
        lock_step.narrowest(Family(spec_of("mlp-8", **change), Store(tmp_path)), 2)
    assert len(tried) == 4, "for two batch sizes, in two layouts each"


@pytest.mark.parametrize("model", ["resnet8-w4", "mlp-8"])
def test_the_last_networks_of_many_have_the_bits_of_the_fixed_width(model, tmp_path, monkeypatch):
    specs = [spec_of(model).model_copy(update={"seed": seed}) for seed in range(3)]
    widths, fit = [], JointTraining.fit
    monkeypatch.setattr(loop, "PAYS", 1)
    monkeypatch.setattr(
        JointTraining, "fit", lambda self, *given: (fit(self, *given), widths.append(self.layout.members))
    )
    found = lmc.fork_all(specs, tmp_path / "narrow", progress=False)
    found[0].train_missing()
    # of nine at first one parent waits, so that its two last children are alone in the end
    assert (widths[0], widths[-1]) == (8, lock_step.narrowest(found[0], 2).members)
    monkeypatch.setattr(joint, "narrowest", lambda family, networks: fixed(family))
    expected = lmc.fork_all(specs, tmp_path / "fixed", progress=False)
    for one, other in zip(found, expected, strict=True):
        for fork in one.fork_epochs:
            for own, theirs in zip(one.siblings(fork), other.siblings(fork), strict=True):
                assert all(own[key].equal(value) for key, value in theirs.items())
