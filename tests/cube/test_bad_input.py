"""What a cube is not measured on: data that are gone after the first look, targets that are no classes, points that are no numbers."""

import numpy as np
import pytest
import torch
from torch import nn

import lmclib as lmc

X, Y = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
BATCHES = [(X[:6], Y[:6]), (X[6:], Y[6:])]


def cube(data=(X, Y), **options):
    torch.manual_seed(0)
    ends = [{key: value.clone() for key, value in nn.Linear(4, 3).state_dict().items()} for _ in range(2)]
    return lmc.LayerCube(nn.Linear(4, 3), *ends, data, **options)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((batch for batch in BATCHES), "gives its batches only once; must be a pair of tensors"),
        (map(tuple, BATCHES), "gives its batches only once"),
        (iter(BATCHES), "gives its batches only once"),
        ("digits", "is a str; must be a pair of tensors"),
        (None, "is a NoneType"),
        (7, "is a int"),
        ([], "is empty"),
        ((X[:0], Y[:0]), "0 inputs and 0 targets"),
        ((X, Y[:5]), "12 inputs and 5 targets"),
        ((np.zeros((3, 4)), np.zeros(3)), "that is no batch"),
        ([X, Y], "gives a Tensor that is no batch"),
        ((X, torch.where(Y == 0, -100, Y)), "targets hold -100; must be classes from 0 on"),
        ([(X, torch.where(Y == 0, -100, Y))], "targets hold -100"),
        ((X, torch.where(Y == 0, 3, Y)), "targets hold 3; the network tells 3 classes, so they go from 0 to 2"),
    ],
)
def test_data_that_would_be_measured_wrongly_are_refused(data, said):
    with pytest.raises(lmc.LmcError, match=said):
        cube(data)(0.5)


@pytest.mark.parametrize("kind", [torch.int32, torch.int16, torch.uint8])
def test_classes_may_be_whole_numbers_of_any_size(kind):
    assert torch.equal(cube((X, Y.to(kind)))(0.5).loss, cube()(0.5).loss)


def test_a_loss_of_ones_own_may_give_negative_targets_a_meaning():
    def ignoring(outputs, y):
        return nn.functional.cross_entropy(outputs, y)

    assert cube((X, torch.where(Y == 0, -100, Y)), loss=ignoring)(0.5).loss > 0


@pytest.mark.parametrize("point", [float("nan"), float("inf"), [0.5, 0.5], "x", None, torch.zeros(0, 1)])
def test_points_are_finite_numbers(point):
    for ask in (cube(), cube().gradient, cube().hessian):
        with pytest.raises(lmc.LmcError, match=r"^a"):
            ask(point)


@pytest.mark.parametrize("size", [0, -1])
def test_batches_hold_examples(size):
    with pytest.raises(lmc.LmcError, match=f"batch_size={size}: must be at least 1"):
        cube(batch_size=size)


def test_both_models_are_of_one_type():
    one = nn.Linear(4, 3).state_dict()
    with pytest.raises(lmc.LmcError, match=r"'weight' is torch\.float16 where t1's is torch\.float32"):
        lmc.LayerCube(nn.Linear(4, 3), one, {key: value.half() for key, value in one.items()}, (X, Y))


NAN = float("nan")


@pytest.mark.parametrize("alphas", [[NAN], [0.5, NAN], [], "x", None, True, 1, 0, -3, [0.5, 1.5], [[0.5]]])
def test_alphas_are_in_the_unit_interval(alphas):
    asked = [lmc.barrier_curve, lmc.layer_barriers, lmc.predict_curve, lmc.predict_layer_barriers]
    for ask in asked:
        with pytest.raises(lmc.LmcError, match="alphas="):
            ask(cube(), alphas)


def test_a_count_of_alphas_may_be_of_numpy_and_points_of_torch():
    assert lmc.barrier_curve(cube(), np.int64(3)).alpha.tolist() == [0, 0.5, 1]
    assert lmc.layer_barriers(cube(), torch.tensor([0.5])).alpha.unique().tolist() == [0.5]


def test_a_group_comes_once():
    with pytest.raises(lmc.LmcError, match="one group twice"):
        lmc.group_barriers(cube(), [["(root)"], ["(root)"]])


def test_a_loss_is_one_number():
    for ask in (
        cube(loss=nn.CrossEntropyLoss(reduction="none")),
        cube(loss=nn.CrossEntropyLoss(reduction="none")).gradient,
    ):
        with pytest.raises(
            lmc.LmcError, match=r"^loss=CrossEntropyLoss\(\): gives a tensor of shape \(12,\); must give the mean"
        ):
            ask(0.5)


@pytest.mark.parametrize("device", ["cudda", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(lmc.LmcError, match=f"^device='{device}': "):
        cube(device=device)
