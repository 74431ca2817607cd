"""The experiments that a chapter's settings describe."""

import pytest

import lmclib as lmc


def settings(profile="digits", **given):
    return lmc.parameters({"profile": profile, **given}, lmc.FEDERATED)


@pytest.mark.parametrize("profile", lmc.FEDERATED)
def test_every_federated_profile_has_the_controls(profile):
    own = settings(profile)
    specs = lmc.federated_specs(own)
    for case in {spec.split_label for spec in specs}:
        here = [spec for spec in specs if spec.split_label == case]
        assert {"all", "none", *own.averaged} == {spec.averaged_label for spec in here}
        assert len({spec.seed for spec in here}) == own.seeds
        assert len(set(here)) == len(here)
    pairs = lmc.client_pair_specs(own)
    assert "the same data" in {spec.split_label for spec in pairs}
    assert {(spec.clients, spec.averaged, spec.lr) for spec in pairs} == {(2, "none", own.pair_lr)}


def test_what_a_reader_gives_is_run():
    specs = lmc.federated_specs(settings(beta=0.01, clients=7, averaged="top:3", split="dirichlet", seeds=1))
    assert [(spec.averaged, spec.beta, spec.clients) for spec in specs] == [
        ("all", 0.01, 7),
        ("top:3", 0.01, 7),
        ("none", 0.01, 7),
    ]
    assert [spec.averaged for spec in lmc.federated_specs(settings(averaged="none", split="iid", seeds=1))] == [
        "all",
        "none",
    ]


def test_paper_scale_is_the_papers():
    """20 clients, Dirichlet 0.01, lr 0.01, batches of 64, 100 epochs of which every tenth is averaged."""
    spec = lmc.federated_specs(settings("paper", beta=0.01, split="dirichlet"))[0]
    assert (spec.clients, spec.beta, spec.lr, spec.batch_size) == (20, 0.01, 0.01, 64)
    assert (spec.rounds, spec.local_epochs) == (10, 10)
    assert {pair.lr for pair in lmc.client_pair_specs(settings("paper"))} == {0.05}
