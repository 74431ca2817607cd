"""The parent's training curve against the networks themselves."""

import pytest
import torch
from torch.nn import functional as F

import lmclib as lmc
from lmclib.errors import LmcError


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    recipe = lmc.Recipe(epochs=1, batch_size=128)
    spec = lmc.ForkSpec(model="mlp-8", fork_epochs=(0, 0.5), siblings=1, recipe=recipe)
    return lmc.fork(spec, tmp_path_factory.mktemp("store"), progress=False)


def test_every_value_is_the_parents_own(family):
    table = lmc.parent_values([family])
    assert len(table) == 2 * 2
    for row in table.itertuples():
        net, (x, y) = family.model, family.data.pair(row.split)
        net.load_state_dict(family.parent(row.epoch))
        with torch.no_grad():
            out = net.eval()(x)
        assert row.loss == pytest.approx(F.cross_entropy(out, y).item(), rel=1e-5)
        assert row.error == pytest.approx((out.argmax(1) != y).float().mean().item(), abs=1e-6)


def test_values_are_remembered_one_by_one(family, monkeypatch):
    before = lmc.parent_values([family])
    monkeypatch.setattr(family, "parent", lambda _: pytest.fail("a network was loaded"))
    assert lmc.parent_values([family]).equals(before)
    assert lmc.parent_values([family], ("test",)).equals(before[before.split == "test"].reset_index(drop=True))


def test_a_wrong_split_is_refused_before_anything_is_computed():
    with pytest.raises(LmcError, match=r"splits=.*'valid' must be one of 'train', 'test'"):
        lmc.parent_values([], ("valid",))
