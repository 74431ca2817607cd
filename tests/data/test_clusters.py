"""Gaussian clusters: sizes, classes, repeatability, and that they can be told apart by what tells them apart."""

import pytest
import torch

from lmclib.data.clusters import FEATURES, INFORMATIVE, clusters
from lmclib.errors import LmcError


def test_classes_are_as_large_as_each_other_but_for_the_flipped_labels():
    _, y = clusters(600, seed=3)
    assert all(abs(int(n) - 200) < 10 for n in y.bincount())


def test_a_seed_is_its_own_data_set():
    x, y = clusters(60, seed=1)
    again = clusters(60, seed=1)
    assert torch.equal(x, again[0])
    assert torch.equal(y, again[1])
    assert not torch.equal(x, clusters(60, seed=2)[0])


def test_few_features_tell_anything():
    """Between classes the features that tell something have variance; those that do not have what chance gives them."""
    x, y = clusters(6000, seed=0)
    means = torch.stack([x[y == c].mean(0) for c in range(3)])
    telling = means.std(0).sort(descending=True).values
    assert telling[INFORMATIVE:].max() < 0.08, "means of 2,000 standard normal numbers"
    assert telling[0] > 0.3
    assert x.shape[1] == FEATURES


def test_too_few_examples_are_refused():
    with pytest.raises(LmcError, match="examples=5: must be at least 6, one a cluster"):
        clusters(5)
