"""What a chapter would train and measure, and what that would cost."""

import pytest
from torch import nn

import lmclib as lmc
from lmclib.book.cost import Forward, Rates, forward_cost
from lmclib.book.estimates import estimate
from lmclib.book.measuring import measure, measuring_chapters
from lmclib.store.dry_run import DryRun, NotRun
from lmclib.training.recipe import Recipe

# a run that trains clients is no family of networks, and is not estimated
TRAINING = [name for name in measuring_chapters() if name not in ("deep_linear", "federated")]
RECIPE = Recipe(epochs=2, batch_size=128, milestones=(1,))
SPEC = lmc.ForkSpec(model="mlp-8", fork_epochs=(0, 1), siblings=2, recipe=RECIPE)


@pytest.mark.parametrize("chapter", TRAINING)
def test_every_chapter_can_be_estimated_at_paper_scale(chapter, tmp_path):
    few = (
        {"draws": 2, "sigma": [0, 0.5, 1]} if chapter == "robustness" else {}
    )  # a stand-in takes a minute for all its steps
    plan = estimate(chapter, {"profile": "paper", "store": str(tmp_path / "none"), **few})
    assert not (tmp_path / "none").exists()
    model = {"robustness": "resnet18-none", "architectures": "vgg11-none"}.get(chapter, "resnet20")
    assert (model, "CIFAR-10") in plan.epochs
    training, measuring = plan.minutes()
    assert training > 10
    assert measuring > 1
    assert "minutes of one H100" in str(plan)
    assert 0 < plan.longest_minutes() < 8, "a slice is too short for it"


@pytest.mark.parametrize("chapter", TRAINING)
def test_given_data_and_precision_are_those_of_all_networks(chapter, tmp_path, monkeypatch):
    met, meet = [], DryRun.meet
    monkeypatch.setattr(DryRun, "meet", lambda self, family: (met.append(family.spec), meet(self, family)))
    estimate(chapter, {"profile": "smoke", "data": "cifar10", "precision": "bf16", "store": str(tmp_path)})
    assert {spec.precision for spec in met} == {"bf16"}
    # a language model has texts of its own, and augmentation is the data's
    images = {spec.data.removesuffix("+randaugment") for spec in met if not spec.model.startswith("gpt")}
    assert images == {"cifar10"}


def test_what_is_no_measurement_of_families_is_left_out_beside_them_and_missing_alone(tmp_path):
    """The small perceptrons of the chapter on robustness have no stand-in; deep linear networks are all that their chapter has."""
    smoke = {"profile": "smoke", "store": str(tmp_path)}
    plan = estimate("robustness", smoke)
    runs = 3 * (2 + 1)  # a parent and two children of three seeds
    transformers = 4 * runs  # two learning rates, RandAugment, and sharpness-aware minimisation
    assert plan.networks == runs + transformers
    assert plan.passes["mlp-12-12-12", "digits"] > 0
    with pytest.raises(NotRun, match="not measured yet"):
        estimate("deep_linear", smoke)


def test_a_plan_counts_what_is_missing(tmp_path):
    given = {"profile": "smoke", "model": "mlp-4", "store": str(tmp_path)}
    plan = estimate("resnet_forking", given)
    # three seeds, three forks, two children of two epochs less where they fork, and a parent to the last fork, one epoch
    # and of the last fork once more a parent and two children, which train two epochs each
    assert plan.networks == 3 * (3 * 2 + 1) + 3 * (2 + 1)
    forks = (0, 22 / 44, 1)
    assert plan.epochs["mlp-4", "digits"] == pytest.approx(
        3 * (sum(2 * (2 - fork) for fork in forks) + 1) + 3 * (2 * 2 + 1), abs=0.1
    )
    measure("resnet_forking", given)
    done = estimate("resnet_forking", given)
    assert (done.networks, sum(done.epochs.values()), sum(done.passes.values())) == (0, 0, 0)
    assert len(plan.wanted) == 2 * 3  # three seeds, and those of the last fork once more
    assert not done.wanted
    for checkpoint in tmp_path.rglob("*.safetensors"):  # as where tables alone were brought along
        checkpoint.unlink()
    brought = estimate("resnet_forking", given)
    assert brought.networks == plan.networks
    assert not brought.wanted, "nothing needs them"


def test_a_plan_counts_passes(tmp_path):
    """11 points of 1,437 images: every fork, seed and epoch once on interpolated statistics, and so on."""
    plan = estimate(
        "resnet_forking", {"profile": "smoke", "model": "mlp-4", "store": str(tmp_path), "fork_epochs": [0]}
    )
    train, test = 11 * 1437, 11 * 360
    evolution = 3 * 2 * train + 2 * (train + 11 * 1437)  # two epochs of three seeds; recomputed, of the first seed
    final = 3 * (train + (train + 11 * 1437) + test + (test + 11 * 1437))
    already = 3 * train + (train + 11 * 1437)  # the last epochs of the evolution
    longer = 3 * train  # the last fork, with children that train as long as the first's
    parents = 3 * (1437 + 360 + 2 * 1437)  # one point each, and its statistics
    assert plan.passes["mlp-4", "digits"] == evolution + final - already + parents + longer
    assert plan.longest["mlp-4", "digits"] == train + 11 * 1437


def test_the_price_of_a_forward_pass():
    conv = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 25, 2))
    forward = forward_cost(conv, (3, 5, 5))
    assert forward.flops == 2 * (25 * 4 * 27 + 100 * 2)
    assert forward.outputs == 100 + 2
    assert conv.training
    slow_memory, slow_units = Rates("", 1e9, 1e9, 1), Rates("", 1, 1, 1e9)
    assert Forward(6, 5).step_seconds(slow_memory) == 2 * 10 * 5
    assert Forward(6, 5).step_seconds(slow_units) == 18
    assert Forward(6, 5).pass_seconds(slow_memory) == 4 * 5 * 5
