"""Training and forking: same seeds, same bits; what is stored, resumed and refused."""

import pytest
import torch
from torch.nn import functional as F

import lmclib as lmc
from lmclib.data.load import load_data
from lmclib.errors import LmcError
from lmclib.networks.build import build_model
from lmclib.runs import joint, plan
from lmclib.store.store import Store
from lmclib.training.loop import train
from lmclib.training.order import epoch_order
from lmclib.training.recipe import Recipe
from lmclib.training.run import Run
from lmclib.training.stack import TrainingStack

RECIPE = Recipe(epochs=2, batch_size=128, milestones=(1,))
SPEC = lmc.ForkSpec(model="mlp-8", fork_epochs=(0, 0.5, 1), siblings=2, recipe=RECIPE)


def children(family):
    return {
        (fork, k, epoch): family.child(fork, k, epoch)
        for fork in family.fork_epochs
        for k in range(family.spec.siblings)
        for epoch in family.epochs(fork)
    }


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert all(torch.equal(one[key][name], other[key][name]) for name in one[key]), key


@pytest.mark.parametrize("model", ["mlp-8", "resnet8-w4", "resnet8-w8-gn"])
def test_lock_step_training_is_plain_sgd(model):
    """Against torch.optim.SGD on the network alone, with the same batches."""
    data = load_data("digits")
    net = build_model(model, data.shape, 10)
    reference = build_model(model, data.shape, 10).train()
    start = {key: value.clone() for key, value in net.state_dict().items()}
    ends = {}
    runs = [Run(f"run {k}", (7, k), start, 0, 3, frozenset()) for k in range(3)]
    train(net, data, RECIPE, runs, lambda run, state, momentum: ends.update({run.name: state}) or [])

    optimiser = torch.optim.SGD(reference.parameters(), lr=RECIPE.lr, momentum=0.9, weight_decay=1e-4)
    order, shifts, _ = epoch_order((7, 1), 0, data)
    padded = F.pad(data.train.x, (1, 1, 1, 1))
    for step in range(3):
        rows = slice(step * 128, (step + 1) * 128)
        x = torch.stack(
            [padded[i, :, r : r + 8, c : c + 8] for i, (r, c) in zip(order[rows], shifts[rows], strict=True)]
        )
        optimiser.zero_grad()
        F.cross_entropy(reference(data.normalise(x)), data.train.y[order[rows]]).backward()
        optimiser.step()
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(ends["run 1"][key], value, rtol=2e-3, atol=2e-5)
    assert not torch.equal(ends["run 0"]["fc.weight"], ends["run 1"]["fc.weight"])


def test_grouped_convolutions_are_in_lock_step():
    """A member's bits are the same in every place, in whatever company."""
    net = build_model("mobilenet-w0.25-l1", (1, 8, 8), 10)
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 1, 8, 8, generator=g), torch.randint(10, (8,), generator=g)
    found = []
    for place in (0, 2):
        stack = TrainingStack(net, 4, x, RECIPE, "float32")
        assert stack.stack.width == 4
        others = torch.randn(8, 4, 1, 8, 8, generator=g)
        others[:, place] = x
        stack.stack.load(place, net.state_dict())
        targets = torch.randint(10, (8, 4), generator=g)
        targets[:, place] = y
        stack.step(others, targets, torch.full((4,), RECIPE.lr))
        found.append(stack.read(place)[0])
    assert all(value.equal(found[1][key]) for key, value in found[0].items())


def test_same_seeds_same_bits_in_any_company(tmp_path):
    alone = lmc.fork(SPEC, tmp_path / "a", progress=False)
    few = SPEC.model_copy(update={"fork_epochs": (0.5,)})
    lmc.fork(few, tmp_path / "b", progress=False)  # the rest is trained later and in other company
    later = lmc.fork(SPEC, tmp_path / "b", progress=False)
    other_seed = SPEC.model_copy(update={"seed": 1})
    together, _ = lmc.fork_all([SPEC, other_seed], tmp_path / "c", progress=False)
    assert_same_bits(children(alone), children(later))
    assert_same_bits(children(alone), children(together))


def test_a_stored_family_is_not_trained_again(tmp_path, monkeypatch):
    lmc.fork(SPEC, tmp_path, progress=False)
    monkeypatch.setattr(joint, "train", lambda *_, **__: pytest.fail("trained again"))
    lmc.fork(SPEC, tmp_path, progress=False)


def test_resume_after_a_kill_gives_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "RESUME_SECONDS", 1e-9)
    whole = lmc.fork(SPEC, tmp_path / "whole", progress=False)

    class Killed(Exception):
        pass

    def kill_late(done, total):
        if done > 0.75 * total:
            raise Killed

    with pytest.raises(Killed):
        lmc.fork(SPEC, tmp_path / "killed", progress=kill_late)
    assert list((tmp_path / "killed").rglob("resume.*")), "nothing to resume from: the kill came too early to test"
    resumed = lmc.fork(SPEC, tmp_path / "killed", progress=False)
    assert_same_bits(children(whole), children(resumed))
    assert not list((tmp_path / "killed").rglob("resume.*"))


def test_a_killed_run_with_other_measured_epochs_is_not_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "RESUME_SECONDS", 1e-9)
    recipe = Recipe(epochs=4, batch_size=128, milestones=(2,))
    few = lmc.ForkSpec(model="mlp-8", fork_epochs=(0,), siblings=1, recipe=recipe, checkpoint_epochs=(4,))
    every = few.model_copy(update={"checkpoint_epochs": (1, 2, 3, 4)})

    class Killed(Exception):
        pass

    def kill(done, total):
        if done > 0.8 * total:
            raise Killed

    with pytest.raises(Killed):
        lmc.fork(few, tmp_path / "killed", progress=kill)
    assert list((tmp_path / "killed").rglob("resume.*"))
    resumed, whole = (lmc.fork(every, tmp_path / name, progress=False) for name in ("killed", "whole"))
    assert resumed.epochs(0) == [1, 2, 3, 4]
    assert_same_bits(children(whole), children(resumed))


def test_a_killed_parent_goes_on_from_its_last_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "RESUME_SECONDS", 1e-9)
    monkeypatch.setattr(plan.Plan, "on_stop", lambda *_: None)  # a kill leaves no time for it
    spec = SPEC.model_copy(update={"fork_epochs": (1.5,)})
    whole = lmc.fork(spec, tmp_path / "whole", progress=False)
    steps = []

    class Killed(Exception):
        pass

    def kill(done, total):
        steps.append(total)
        if done > whole.epoch_steps:  # in the parent's second epoch, before anything but its place is stored
            raise Killed

    with pytest.raises(Killed):
        lmc.fork(spec, tmp_path / "killed", progress=kill)
    resumed = lmc.fork(spec, tmp_path / "killed", progress=lambda done, total: steps.append(total))
    assert steps[-1] == steps[0] - whole.epoch_steps
    assert_same_bits(children(whole), children(resumed))
    assert not list((tmp_path / "killed").rglob("resume.*"))


def test_siblings_share_the_fork_and_differ_in_order(tmp_path):
    family = lmc.fork(SPEC, tmp_path, progress=False)
    t1, t2 = family.siblings(fork_epoch=0.5)
    assert lmc.distance(t1, t2) > 0
    start = family.parent(0)
    assert all(
        torch.equal(start[key], value) for key, value in build_model("mlp-8", (1, 8, 8), 10, 0).state_dict().items()
    )
    assert family.cube(fork_epoch=1, epoch=2, split="test").layers == ("body.0", "fc")


@pytest.mark.parametrize(("fork", "said"), [(None, "None"), ("late", "late"), (0.7, "0.7")])
def test_a_fork_that_the_family_has_not_is_named(tmp_path, fork, said):
    family = lmc.fork(SPEC, tmp_path, progress=False)
    with pytest.raises(LmcError, match=f"^fork_epoch={said}: must be one of 0, 0.545, 1$"):
        family.siblings(fork)


def test_a_reset_schedule_trains_children_for_the_whole_recipe(tmp_path):
    spec = SPEC.model_copy(update={"recipe": RECIPE.model_copy(update={"schedule_after_fork": "reset"})})
    family = lmc.fork(spec, tmp_path, progress=False)
    assert [family.epochs(fork)[-1] for fork in (0, 0.5, 1)] == [2, 3, 3]


def test_divergence_says_where_and_keeps_what_was_stored(tmp_path):
    wild = SPEC.model_copy(update={"recipe": RECIPE.model_copy(update={"lr": 1e18})})
    with (
        pytest.warns(UserWarning, match="no longer finite"),
        pytest.raises(LmcError, match=r"lr=1e\+18: the loss of .* at step \d+"),
    ):
        lmc.fork(wild, tmp_path, progress=False)
    assert list(tmp_path.rglob("00000000.*.safetensors"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fork_epochs": (-1.0,)}, "-1 is out of range"),
        ({"fork_epochs": (2.0,)}, "2 is out of range"),
        ({"fork_epochs": (0.5, 0.5001)}, "0.5001 rounds onto 0.5"),
        ({"model": "resnet21"}, "model='resnet21': must be one of"),
        ({"model": "no_such_package:net"}, "cannot import it"),
        ({"data": "mnist"}, "data='mnist': must be"),
        ({"recipe": RECIPE.model_copy(update={"batch_size": 5000})}, "batch_size=5000"),
    ],
)
def test_bad_specs_are_refused_before_any_compute(tmp_path, change, said):
    with pytest.raises(LmcError, match=said):
        lmc.fork(SPEC.model_copy(update=change), tmp_path / "store", progress=False)
    assert not (tmp_path / "store").exists()


def test_zero_siblings_are_refused():
    with pytest.raises(ValueError, match="siblings"):
        lmc.ForkSpec(siblings=0)


def test_a_damaged_checkpoint_is_noticed(tmp_path):
    store = Store(tmp_path)
    store.save_state("run", "a", {"w": torch.ones(3)})
    (path,) = tmp_path.rglob("a.*.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.warns(UserWarning, match=r"is damaged .* computed anew"):
        assert store.load_state("run", "a") is None
    assert not store.states("run")
