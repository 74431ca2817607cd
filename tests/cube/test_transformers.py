"""Cubes between transformers and between language models: values, derivatives and partitions."""

import pytest
import torch
from torch.nn import functional as F

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.networks.build import build_model

TOKENS = torch.randint(0, 11, (8, 8), generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def ends(name, shape, dtype=torch.float64):
    nets = [build_model(name, shape, 11, seed) for seed in (0, 1)]
    g = torch.Generator().manual_seed(3)
    states = []
    for net in nets:  # away from zero, at which heads begin
        states.append(
            {k: v.to(dtype) + 0.1 * torch.randn(v.shape, generator=g, dtype=dtype) for k, v in net.state_dict().items()}
        )
    return nets[0], *states


def cube(name, layers="layers", n=8, length=8):
    if name.startswith("gpt"):
        net, *states = ends(name, (8,))
        return lmc.LayerCube(net, *states, (TOKENS[:n, :length], TOKENS[:n].roll(-1, 1)[:, :length]), layers=layers)
    net, *states = ends(name, (1, 8, 8))
    return lmc.LayerCube(net, *states, (IMAGES[:n], torch.arange(n)), layers=layers)


@pytest.mark.parametrize("name", ["vit-p4-d16-l1", "gpt-d16-l1"])
def test_values_are_those_of_the_interpolated_network(name):
    c = cube(name)
    a = torch.rand(3, len(c.layers), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    a[1] = torch.where(torch.arange(a.shape[1]) < 2, a[0], a[1])  # something to share
    losses, errors = c(a)
    net = c.model.double().eval()
    x, y = c.data
    for point, loss, error in zip(a, losses, errors, strict=True):
        net.load_state_dict(c.state(point))
        with torch.no_grad():
            out = net(x)
        torch.testing.assert_close(loss, F.cross_entropy(out.flatten(0, -2), y.flatten()), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(error, (out.argmax(-1) != y).double().mean())


@pytest.mark.parametrize("name", ["vit-p4-d16-l1", "gpt-d16-l1"])
def test_derivatives_are_those_of_differences(name):
    c = cube(name, layers="blocks")
    at = torch.full((len(c.layers),), 0.3, dtype=torch.float64)
    step, eye = 1e-4, torch.eye(len(c.layers), dtype=torch.float64)
    gradient = (c(at + step * eye).loss - c(at - step * eye).loss) / (2 * step)
    torch.testing.assert_close(c.gradient(at), gradient, rtol=1e-5, atol=1e-7)
    rows = [(c.gradient(at + step * row) - c.gradient(at - step * row)) / (2 * step) for row in eye]
    torch.testing.assert_close(c.hessian(at), torch.stack(rows), rtol=1e-5, atol=1e-6)
    one = torch.ones(len(c.layers), dtype=torch.float64)
    (outputs, first, _), y = next(c.derivatives.jets(at, one, 2))
    ahead, behind = (next(c.derivatives.jets(at + s * one, one, 0))[0][0] for s in (step, -step))
    torch.testing.assert_close(first, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-6)
    assert outputs.shape[: y.dim()] == y.shape


@pytest.mark.parametrize("name", ["vit-p4-d16-l1", "gpt-d16-l1"])
def test_predictions_are_exact_at_the_ends_and_finite_between(name):
    c = cube(name)
    for method in ("published", "gradient", "hermite", "logit-cubic", "logit-quintic"):
        barrier = lmc.predict_curve(c, alphas=5, method=method).loss_barrier
        assert barrier.notna().all()
        assert abs(barrier.iloc[0]) < 1e-9
        assert abs(barrier.iloc[-1]) < 1e-9


def test_a_sequence_as_long_as_the_batch_is_like_any_other():
    """Where a batch has as many texts as each has characters, nothing may take one for the other."""
    square, every = cube("gpt-d16-l1", n=8, length=8), []
    a = torch.rand(4, len(square.layers), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    values = square(a)
    for half in (slice(0, 4), slice(4, 8)):  # the same texts in two batches of other shapes
        net, *states = ends("gpt-d16-l1", (8,))
        every.append(lmc.LayerCube(net, *states, (TOKENS[half], TOKENS[half].roll(-1, 1)))(a))
    for whole, *halves in zip(values, *every, strict=True):
        torch.testing.assert_close(whole, sum(halves) / 2, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("layers", ["layers", "blocks", "fine"])
def test_every_partition_has_the_same_diagonal(layers):
    values = [cube("gpt-d16-l2", kind)(0.5).loss for kind in ("layers", layers)]
    torch.testing.assert_close(*values, rtol=1e-12, atol=1e-14)


def test_partitions_of_attention():
    fine = cube("gpt-d16-l1", "fine").layers
    assert {f"blocks.0.attention.{part}.weight" for part in ("query", "key", "value", "out")} <= set(fine)
    assert cube("gpt-d16-l2", "blocks").layers == ("token", "position", "blocks.0", "blocks.1", "norm", "head")


def test_a_partition_of_ones_own():
    whole = cube("gpt-d16-l1").layers
    own = {"attention": [name for name in whole if "attention" in name], "bias": ["blocks.0.up.bias"]}
    own["rest"] = ["blocks.0.up.weight", *(n for n in whole if "attention" not in n and n != "blocks.0.up")]
    c = cube("gpt-d16-l1", own)
    assert c.layers == ("attention", "bias", "rest")
    torch.testing.assert_close(c(1.0).loss, cube("gpt-d16-l1")(1.0).loss)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda own: own.pop("head"), "'head.weight' is on no axes"),
        (lambda own: own.update(twice=["head"]), "'head.weight' is on 2 axes"),
        (lambda own: own.update(odd=["heat"]), "did you mean 'head'"),
    ],
)
def test_a_partition_that_misses_or_repeats_a_parameter_is_refused(change, said):
    own = {name: [name] for name in cube("gpt-d16-l1").layers}
    change(own)
    with pytest.raises(LmcError, match=said):
        cube("gpt-d16-l1", own)
