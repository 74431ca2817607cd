"""Optimisers in lock-step and alone, against PyTorch's own and against sharpness-aware minimisation written out."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lmclib.data.load import load_data
from lmclib.networks.build import build_model
from lmclib.training.loop import train
from lmclib.training.optimisers import AdamW
from lmclib.training.order import epoch_order
from lmclib.training.recipe import Recipe
from lmclib.training.run import Run

ADAMW = Recipe(batch_size=128, lr=0.01, schedule="constant", optimizer="adamw", weight_decay=0.1)


def batches(data, stream, recipe, steps):
    drawn = epoch_order(stream, 0, data)
    for step in range(steps):
        rows = slice(step * recipe.batch_size, (step + 1) * recipe.batch_size)
        yield data.drawn(*(part[rows] for part in drawn))


def trained(model, data, recipe, steps, n=2):
    net, ends = build_model(model, data.shape, len(data.classes)), {}
    runs = [Run(f"run {k}", (7, k), net.state_dict(), 0, steps, frozenset()) for k in range(n)]
    train(net, data, recipe, runs, lambda run, state, moments: ends.update({run.name: (state, moments)}) or [])
    return ends["run 1"]


@pytest.mark.parametrize("model", ["mlp-8", "vit-p4-d16-l1"])
def test_adamw_is_pytorchs(model):
    """In lock-step (the first) and alone."""
    data = load_data("digits")
    state, moments = trained(model, data, ADAMW, 4)
    reference = build_model(model, data.shape, 10).train()
    optimiser = torch.optim.AdamW(reference.parameters(), ADAMW.lr, weight_decay=ADAMW.weight_decay)
    for x, y in batches(data, (7, 1), ADAMW, 4):
        optimiser.zero_grad()
        F.cross_entropy(reference(x), y).backward()
        optimiser.step()
    for key, parameter in reference.named_parameters():
        if key.endswith("key.bias"):  # the softmax does not depend on it, so its gradient is rounding
            continue
        torch.testing.assert_close(moments[key], optimiser.state[parameter]["exp_avg"], rtol=2e-2, atol=1e-5)
        torch.testing.assert_close(state[key], parameter.detach(), rtol=1e-2, atol=2e-3)
    assert moments["/steps"] == 4


@pytest.mark.parametrize("width", [1, 3])
def test_every_member_has_adamw_with_a_rate_and_a_count_of_its_own(width):
    """In float64, to rounding, where the last member begins anew after two steps."""
    g = torch.Generator().manual_seed(0)
    shapes, rates = [(4, 3), (5,)], torch.tensor([0.1, 0.02, 0.3], dtype=torch.float64)[:width]
    start = [torch.randn(width, *shape, generator=g, dtype=torch.float64) for shape in shapes]
    own = AdamW(
        [value.flatten(0, 1) if value.dim() > 2 else value.flatten() for value in map(torch.clone, start)], width, ADAMW
    )
    own.steps = own.counts["/steps"] = own.steps.double()
    alone = [[nn.Parameter(value[k].clone()) for value in start] for k in range(width)]
    optimisers = [
        torch.optim.AdamW(net, float(rate), weight_decay=ADAMW.weight_decay)
        for net, rate in zip(alone, rates, strict=True)
    ]
    for step in range(4):
        if step == 2:
            optimisers[-1].state.clear()
            for values in own.moments.values():
                for value in values:
                    value.view(width, -1)[-1].zero_()
            own.steps[-1] = 0
        slopes = [torch.randn(width, *shape, generator=g, dtype=torch.float64) for shape in shapes]
        own.update([slope.view_as(p).clone() for slope, p in zip(slopes, own.parameters, strict=True)], rates)
        for k, optimiser in enumerate(optimisers):
            for parameter, slope in zip(alone[k], slopes, strict=True):
                parameter.grad = slope[k]
            optimiser.step()
    for i, parameter in enumerate(own.parameters):
        for k in range(width):
            torch.testing.assert_close(parameter.view(width, -1)[k], alone[k][i].detach().flatten())


@pytest.mark.parametrize("model", ["mlp-8-tanh", "vit-p4-d16-l1"])
def test_sharpness_aware_gradients_are_taken_uphill(model):
    data, recipe = load_data("digits"), Recipe(batch_size=128, lr=0.1, schedule="constant", rho=0.5, weight_decay=0)
    state, _ = trained(model, data, recipe, 2)
    plain, _ = trained(model, data, recipe.model_copy(update={"rho": 0}), 2)
    net = build_model(model, data.shape, 10).train()
    velocity = [torch.zeros_like(p) for p in net.parameters()]
    for x, y in batches(data, (7, 1), recipe, 2):
        parameters = list(net.parameters())
        slopes = torch.autograd.grad(F.cross_entropy(net(x), y), parameters)
        norm = torch.cat([slope.flatten() for slope in slopes]).norm()
        before = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for p, slope in zip(parameters, slopes, strict=True):
                p.add_(0.5 * slope / norm)
        slopes = torch.autograd.grad(F.cross_entropy(net(x), y), parameters)
        with torch.no_grad():
            for p, old, v, slope in zip(parameters, before, velocity, slopes, strict=True):
                v.mul_(recipe.momentum).add_(slope)
                p.copy_(old - recipe.lr * v)
    away = max((state[key] - plain[key]).abs().max() for key in state)
    for key, value in net.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=1e-3, atol=1e-4)
        assert away > 1e-2  # so that plain descent would not pass


def test_running_statistics_are_those_of_the_first_pass():
    data, ends = load_data("digits"), []
    for rho in (0, 5.0):
        recipe = Recipe(batch_size=128, lr=0.1, schedule="constant", rho=rho)
        ends.append(trained("vgg11-w4", data, recipe, 1)[0])
    assert torch.equal(ends[0]["norms.3.running_mean"], ends[1]["norms.3.running_mean"])
    assert not torch.equal(ends[0]["convs.3.weight"], ends[1]["convs.3.weight"])


def test_a_broken_run_goes_on_with_what_the_optimiser_remembers():
    data = load_data("digits")
    net = build_model("vit-p4-d16-l1", data.shape, 10)
    whole, _ = trained("vit-p4-d16-l1", data, ADAMW, 4)
    half, moments = trained("vit-p4-d16-l1", data, ADAMW, 2)
    ends = {}
    run = Run("run 1", (7, 1), half, 2, 4, frozenset(), moments)
    train(net, data, ADAMW, [run], lambda run, state, moments: ends.update(state) or [])
    for key, value in whole.items():
        assert torch.equal(ends[key], value), key


def test_a_recipe_is_what_it_was_before_there_were_optimisers():
    assert not {"optimizer", "beta2", "rho"} & set(Recipe().model_dump())
    assert Recipe(optimizer="adamw").model_dump()["beta2"] == 0.999
    assert Recipe(rho=0.1).model_dump()["rho"] == 0.1


@pytest.mark.parametrize("value", [{"optimizer": "adam"}, {"rho": -0.1}, {"rho": float("nan")}, {"beta2": 1}])
def test_a_wrong_choice_is_refused(value):
    with pytest.raises(ValueError, match=next(iter(value))):
        Recipe(**value)


def test_a_text_is_trained_on_with_its_own_loss():
    """The mean over all characters of a batch, against the model's own outputs."""
    data = load_data("topics@8")
    recipe = Recipe(batch_size=64, lr=0.5, momentum=0, weight_decay=0, schedule="constant")
    state, _ = trained("gpt-d16-l1", data, recipe, 1, n=2)
    net: nn.Module = build_model("gpt-d16-l1", data.shape, len(data.classes))
    ((x, y),) = batches(data, (7, 1), recipe, 1)
    slopes = torch.autograd.grad(F.cross_entropy(net(x).flatten(0, 1), y.flatten()), list(net.parameters()))
    for (key, parameter), slope in zip(net.named_parameters(), slopes, strict=True):
        torch.testing.assert_close(state[key], parameter.detach() - 0.5 * slope, rtol=1e-4, atol=1e-6)
