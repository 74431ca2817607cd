"""Runs come and go, and the layout with them."""

import pytest
import torch

from lmclib.data.load import load_data
from lmclib.networks.build import build_model
from lmclib.training import loop
from lmclib.training.loop import Layout, train
from lmclib.training.recipe import Recipe
from lmclib.training.run import Run

RECIPE = Recipe(epochs=2, batch_size=128, milestones=(1,))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_runs_go_on_from_where_they_are_when_the_layout_changes(optimizer, monkeypatch):
    """With their momentum, their order of examples, and what they already diverged at."""
    monkeypatch.setattr(loop, "PAYS", 1)
    data, recipe, asked = load_data("digits"), RECIPE.model_copy(update={"optimizer": optimizer, "lr": 1e-3}), []
    net = build_model("mlp-8", data.shape, 10)

    def ends(fitted=None):
        found = {}
        runs = [Run(f"run {k}", (7, k), net.state_dict(), 0, 2 + 4 * k, frozenset()) for k in range(5)]
        keep = lambda run, *read: found.update({run.name: read}) or []  # noqa: E731
        train(net, data, recipe, runs, keep, layout=Layout(1, 4), fitted=fitted)
        return found

    def fitted(runs):
        asked.append(runs)
        return Layout(1, 1 if runs == 1 else 2 if runs < 4 else 4)  # three share two places for a while

    for name, read in ends(fitted).items():
        for own, plain in zip(read, ends()[name], strict=True):
            for key, value in plain.items():
                torch.testing.assert_close(own[key], value, rtol=1e-4, atol=1e-6)
    assert asked == [5, 5, 4, 3, 2, 1]


def test_a_run_that_diverged_before_the_layout_changed_is_said_to_have_done_so_then(monkeypatch):
    monkeypatch.setattr(loop, "PAYS", 1)
    data, said = load_data("digits"), []
    net = build_model("mlp-8", data.shape, 10)
    broken = {key: value * torch.inf for key, value in net.state_dict().items()}
    runs = [Run("good", (7, 0), net.state_dict(), 0, 2, frozenset()), Run("bad", (7, 1), broken, 0, 5, frozenset())]
    how = {"layout": Layout(1, 4), "fitted": lambda runs: Layout(1, 2 * runs)}
    train(net, data, RECIPE, runs, lambda *read: [], on_diverged=lambda run, error: said.append(str(error)), **how)
    (line,) = said
    assert "the loss of bad is no longer finite at step 0" in line


def test_where_a_run_is_can_be_read_while_it_waits_for_a_place(monkeypatch):
    """As whoever stops a training does, of every run that has ended an epoch."""
    monkeypatch.setattr(loop, "PAYS", 1)
    data, net, reads, seen = load_data("digits"), build_model("mlp-8", load_data("digits").shape, 10), {}, []
    steps = loop.steps_per_epoch(len(data.train), RECIPE)
    runs = [Run(f"run {k}", (7, k), net.state_dict(), 0, steps * (1 if k == 0 else 2), frozenset()) for k in range(3)]

    def look(members):
        if len(reads) == 2 and members == 1:  # the first has ended, and one of the others waits
            seen.append({run.name: (run.step, *read()) for run, read in reads.items()})

    how = {"on_epoch": lambda run, read: reads.update({run: read}), "on_step": look, "layout": Layout(1, 3)}
    fitted = lambda members: Layout(1, 3 if members > 2 else 1)  # noqa: E731
    train(net, data, RECIPE, runs, lambda *read: [], fitted=fitted, **how)
    first = seen[0]
    assert sorted(step for step, *_ in first.values()) == [steps, steps + 1]
    for _, state, momentum in first.values():
        assert state.keys() == net.state_dict().keys()
        assert momentum.keys() == dict(net.named_parameters()).keys()
