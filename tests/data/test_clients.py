"""Splits over clients: every example once, local tests of the same classes, and one line for what cannot be split."""

from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import lmclib as lmc
from lmclib.data.dataset import Dataset, Split
from lmclib.errors import LmcError

DIGITS = lmc.load_data("digits")


def made_up(labels, test_labels=None) -> Dataset:
    parts = [torch.tensor(part) for part in (labels, labels if test_labels is None else test_labels)]
    n = int(max(part.max() for part in parts)) + 1
    splits = [Split(torch.zeros(len(y), 1, 2, 2, dtype=torch.uint8), y) for y in parts]
    return Dataset("made up", tuple(map(str, range(n))), *splits)


def assert_each_once(clients, n):
    assert torch.equal(torch.cat([client.train for client in clients]).sort().values, torch.arange(n))
    assert min(map(len, clients)) > 0


@pytest.mark.parametrize("split", ["iid", "dirichlet", "shards"])
@pytest.mark.parametrize("clients", [1, 2, 20])
def test_every_example_belongs_to_exactly_one_client(split, clients):
    for beta in (0.01, 0.5, 100):
        assert_each_once(lmc.split_clients(DIGITS, clients, split, beta=beta), len(DIGITS.train))


@hypothesis_settings(deadline=None, max_examples=40)
@given(
    labels=st.lists(st.integers(0, 3), min_size=8, max_size=40),
    clients=st.integers(1, 4),
    beta=st.floats(1e-6, 1e6),
    seed=st.integers(0, 5),
)
def test_every_example_belongs_to_one_client_whatever_the_labels(labels, clients, beta, seed):
    data = made_up(labels)
    with suppress(LmcError):  # where a client had no data in any draw
        assert_each_once(lmc.split_clients(data, clients, "dirichlet", beta, seed=seed), len(labels))


@pytest.mark.parametrize("split", ["iid", "dirichlet", "shards", "same"])
def test_local_tests_have_the_proportions_of_the_clients_own_examples(split):
    clients = lmc.split_clients(DIGITS, 10, split, beta=0.3)
    for client in clients:
        assert len(client.test.unique()) == len(client.test) > 0
        shares, n = lmc.class_shares(DIGITS.train.y, [client], 10)[0], len(client.test)
        found = np.bincount(DIGITS.test.y[client.test], minlength=10)
        assert np.abs(found - shares * n).max() < 1, "not rounded to the next whole image"
        # no image more would fit
        there = np.bincount(DIGITS.test.y, minlength=10)
        assert ((n + 1) * shares > there - 1e-9).any()


def test_shards_have_few_classes_and_one_each_parts_them():
    for client in lmc.split_clients(DIGITS, 10, "shards", shards=2):
        assert len(DIGITS.train.y[client.train].unique()) <= 4  # two shards, each over at most one border
    one, two = (set(DIGITS.train.y[c.train].tolist()) for c in lmc.split_clients(DIGITS, 2, "shards", shards=1))
    assert len(one & two) <= 1
    assert one | two == set(range(10))


def test_a_small_beta_makes_clients_of_one_class_and_a_large_one_of_all():
    def commonest(beta):
        clients = lmc.split_clients(DIGITS, 20, "dirichlet", beta)
        return np.median(lmc.class_shares(DIGITS.train.y, clients, 10).max(1))

    assert commonest(0.01) > 0.9
    assert commonest(0.5) < 0.6
    assert commonest(1e4) < 0.15


def test_a_seed_draws_all_and_another_seed_something_else():
    for split in ("iid", "dirichlet", "shards", "same"):
        one, again, other = (lmc.split_clients(DIGITS, 4, split, seed=seed)[0] for seed in (0, 0, 1))
        assert torch.equal(one.train, again.train)
        assert torch.equal(one.test, again.test)
        assert not (len(one.train) == len(other.train) and torch.equal(one.train, other.train)), split


def test_clients_with_the_same_data_have_the_first_part_of_the_iid_split():
    own, (first, *_) = lmc.split_clients(DIGITS, 3, "same"), lmc.split_clients(DIGITS, 3, "iid")
    assert all(torch.equal(client.train, first.train) for client in own)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"clients": 1438}, "clients=1438: must be from 1 to the number of training examples, 1437"),
        ({"clients": 0}, "clients=0: must be from 1"),
        ({"clients": 2, "split": "dirichlet", "beta": 0}, "beta=0: must be a finite number above 0"),
        ({"clients": 2, "split": "dirichlet", "beta": -1}, "beta=-1: must be a finite number above 0"),
        ({"clients": 2, "split": "dirichlet", "beta": float("nan")}, "beta=nan: must be a finite number above 0"),
        ({"clients": 2, "split": "dirichlet", "beta": float("inf")}, "beta=inf: must be a finite number above 0"),
        ({"clients": 1000, "split": "dirichlet"}, "clients=1000, beta=0.5: in each of 100 draws a client had no data"),
        ({"clients": 1000, "split": "shards"}, "shards=2: must be from 1 to 1, as 1000 clients share 1437 examples"),
        ({"clients": 2, "split": "shards", "shards": 0}, "shards=0: must be from 1 to 718"),
        ({"clients": 2, "seed": -1}, "seed=-1: must be 0 or more"),
        ({"clients": 2, "split": "random"}, "split='random': must be one of 'iid', 'dirichlet', 'shards', 'same'"),
    ],
)
def test_what_cannot_be_split_is_one_line(given, said):
    with pytest.raises(LmcError) as caught:
        lmc.split_clients(DIGITS, **given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_that_the_test_split_lacks_is_named():
    with pytest.raises(LmcError, match="data='made up': the test split has no example of class '1'"):
        lmc.split_clients(made_up([0, 1, 0, 1], [0, 0]), 1)
