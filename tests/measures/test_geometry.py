"""Distances, angles and planes of state dicts."""

import numpy as np
import pytest
import torch

import lmclib as lmc


def test_parameters_are_matched_by_their_names_not_by_their_order():
    """A stored state dict is in the order of the alphabet, a module's own in that of its layers."""
    torch.manual_seed(0)
    one, two = (torch.nn.Linear(3, 2).state_dict() for _ in range(2))
    turned = dict(reversed(two.items()))
    assert list(turned) != list(two)
    assert lmc.distance(two, turned) == 0
    assert lmc.sibling_angle(one, turned) == lmc.sibling_angle(one, two)
    assert lmc.sibling_angle(one, two, base=dict(reversed(one.items()))) != lmc.sibling_angle(one, two, base=two)
    assert lmc.solution_plane_cosine([one, one], [turned, two]) == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"w": torch.zeros(3)}, r"'w' is \(2,\) in one and \(3,\) in the other"),
        ({"w": torch.zeros(2), "b": torch.zeros(1)}, r"'b' is absent in one and \(1,\) in the other"),
        ({}, r"'w' is \(2,\) in one and absent in the other"),
    ],
)
def test_state_dicts_of_other_architectures_have_no_distance(other, said):
    for ask in (lmc.distance, lmc.sibling_angle):
        with pytest.raises(lmc.LmcError, match=said):
            ask({"w": torch.ones(2)}, other)


def test_there_is_no_angle_at_the_base_itself():
    one = {"w": torch.ones(2)}
    assert np.isnan(lmc.sibling_angle(one, {"w": torch.zeros(2)}, base=one))
    with pytest.raises(lmc.LmcError, match="holds no parameters"):
        lmc.sibling_angle({}, {})
