"""Specs: what is wrong with one is said in one line."""

import pytest

import lmclib as lmc


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: lmc.Recipe(lr=-1), "lr=-1: must be greater than 0"),
        (lambda: lmc.Recipe(epoch=2), "epoch=2: is no part of Recipe; did you mean 'epochs'?"),
        (lambda: lmc.Recipe(milestones=(-1,)), "milestones.0=-1: must be greater than or equal to 0"),
        (lambda: lmc.Recipe(milestones=(float("nan"),)), "milestones.0=nan: must be a finite number"),
        (lambda: lmc.Recipe(lr=float("inf")), "lr=inf: must be a finite number"),
        (lambda: lmc.Recipe(weight_decay=float("inf")), "weight_decay=inf: must be a finite number"),
        (lambda: lmc.ForkSpec(siblings=0), "siblings=0: must be greater than or equal to 1"),
        (lambda: lmc.ForkSpec(seed=2**70), f"seed={2**70}: must be less than {2**63}"),
        (lambda: lmc.ForkSpec(recipe={"lr": -1}), "recipe={'lr': -1}: lr=-1: must be greater than 0"),
        (lambda: lmc.FederatedSpec(clints=3), "clints=3: is no part of FederatedSpec; did you mean 'clients'?"),
    ],
)
def test_what_is_wrong_with_a_spec_is_one_line(make, said):
    with pytest.raises(lmc.LmcError) as error:
        make()
    assert str(error.value) == said
