"""Training that is stopped from `progress`: it goes on from the very step, and ends bit for bit where an unbroken one ends."""

import pytest
import torch

import lmclib as lmc
from lmclib.runs.watching import Moment

SPEC = lmc.ForkSpec(model="mlp-8", fork_epochs=(0, 0.5, 1), recipe=lmc.Recipe(epochs=3), checkpoint_epochs=(1, 2, 3))


class Stop(BaseException):
    """Like KeyboardInterrupt, no error."""


def trained(store, stop_at=None):
    """A family trained, or stopped after some steps; and the steps that were taken."""
    taken = []

    def progress(done, total):
        taken.append(done)
        if stop_at is not None and done >= stop_at:
            raise Stop

    (family,) = lmc.fork_all([SPEC], store, progress)
    if stop_at is None:
        family.train_missing()
    else:
        with pytest.raises(Stop):
            family.train_missing()
    return family, taken[-1] if taken else 0


def states(family):
    return [family.child(fork, k, epoch) for fork in family.fork_epochs for k in (0, 1) for epoch in (2, 3)]


@pytest.mark.parametrize("part", [0.05, 0.31, 0.5, 0.71, 0.97])
def test_it_goes_on_from_there(part, tmp_path):
    whole, steps = trained(tmp_path / "whole")
    _, before = trained(tmp_path / "stopped", stop_at=round(part * steps))
    family, after = trained(tmp_path / "stopped")
    lost = before + after - steps
    assert 0 <= lost < 7 * family.epoch_steps  # at most an epoch that had just begun, of the parent and six children
    for one, other in zip(states(whole), states(family), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_after_an_epoch_nothing_is_lost(tmp_path):
    """Wherever all that trains has ended an epoch, also where a checkpoint is due after the very step of the stop."""
    whole, steps = trained(tmp_path / "whole")
    for k, left in enumerate((1, 2, 60)):
        store = tmp_path / str(k)
        _, before = trained(store, stop_at=steps - left)
        family, after = trained(store)
        assert before + after == steps
        for one, other in zip(states(whole), states(family), strict=True):
            assert all(torch.equal(one[key], other[key]) for key in one)


def test_networks_can_be_watched(tmp_path):
    seen: list[Moment] = []
    (family,) = lmc.fork_all([SPEC], tmp_path, progress=False, watch=seen.append)
    family.train_missing()
    last = {(m.fork_epoch, m.sibling): m for m in seen}
    assert max(m.epoch for m in seen) == 3
    assert {(m.fork_epoch, m.sibling) for m in seen} == {
        (None, None),
        *((fork, k) for fork in family.fork_epochs for k in (0, 1)),
    }
    child = last[family.fork_epochs[1], 1]
    stored = family.child(family.fork_epochs[1], 1)
    assert all(torch.equal(child.state[key], stored[key]) for key in stored)
