"""Barriers between clients, the layers that they choose, and the tables of many runs."""

import pytest
import torch

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.store.dry_run import NotRun, dry_run
from lmclib.store.store import Store

SPEC = lmc.FederatedSpec(model="mlp-6-5", clients=3, split="dirichlet", rounds=1, local_epochs=1, batch_size=64)


def runs(**changes):
    return SPEC.model_copy(update=changes)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


def by_hand(store, epochs):
    """The first two clients after some epochs, trained here."""
    training = lmc.Federation(SPEC, store).start()
    for _ in range(epochs):
        training.train_epoch()
    return training


def test_layers_are_chosen_by_the_barrier_between_the_first_two_clients_after_the_first_round(store):
    training = by_hand(store, 1)
    cube = lmc.LayerCube(training.nets[0], *training.states[:2], training.data.pair("train"))
    table = lmc.layer_barriers(cube).query("into == 'both'").set_index("layer").loss_barrier
    ranked = table.sort_values(ascending=False).index.tolist()
    assert len(set(ranked)) == 3
    for averaged, chosen in (("top:1", ranked[:1]), ("top:2", ranked[:2]), ("bottom:1", ranked[-1:])):
        found = lmc.federated_accuracy([runs(averaged=averaged)], store, progress=False)
        assert set(found.layers.item().split(", ")) == set(chosen)
        named = lmc.federated_accuracy([runs(averaged=tuple(chosen))], store, progress=False)
        same = ["local_accuracy", "worst_local_accuracy", "tuned_accuracy", "bytes"]
        assert found[same].equals(named[same])


def test_clients_that_never_average_are_measured_as_they_train(store):
    table = lmc.unaveraged_layers([runs(averaged="none")], [1, 2], store, progress=False)
    assert sorted(table.epoch.unique()) == [1, 2]
    training = by_hand(store, 2)
    for split in ("train", "test"):
        cube = lmc.LayerCube(training.nets[0], *training.states[:2], training.data.pair(split))
        expected = lmc.layer_table(cube)
        found = table.query("epoch == 2 and split == @split")
        assert found.loss_barrier.tolist() == pytest.approx(expected.loss_barrier.tolist(), abs=1e-6)
    assert table.query("epoch == 2").own_error.iloc[0] == pytest.approx(float(training.own_errors().mean()))
    assert table["case"].unique().tolist() == ["Dirichlet 0.5"]


def test_clients_with_the_same_data_part_by_their_order_alone(store):
    same, other = (
        lmc.unaveraged_layers([runs(split=split, clients=2)], [1], store, progress=False)
        for split in ("same", "shards")
    )

    def whole(table):
        return table.query(
            "layer == 'network' and into == 'both' and split == 'train' and baseline == 'models'"
        ).loss.item()

    assert 0 < whole(same) < whole(other)


def test_the_split_table_is_the_split(store):
    table = lmc.split_table([runs()], store)
    clients = lmc.Federation(SPEC, store).clients
    labels = lmc.load_data("digits").train.y
    for k, client in enumerate(clients):
        own = table[table.client == k]
        counted = torch.bincount(labels[client.train], minlength=10) / len(client)
        assert own.share.tolist() == pytest.approx(counted.tolist())
        assert own.examples.unique().tolist() == [len(client)]
        assert own.test_examples.unique().tolist() == [len(client.test)]


def test_all_runs_are_checked_before_the_first_is_trained(store, monkeypatch):
    monkeypatch.setattr(lmc.LocalTraining, "train_epoch", lambda self: pytest.fail("computes"))
    with pytest.raises(LmcError, match="averaged='fd': no such layer; did you mean 'fc'"):
        lmc.federated_accuracy([runs(seed=77), runs(averaged="fd")], store, progress=False)
    with pytest.raises(LmcError, match="specs: must hold at least one run"):
        lmc.federated_accuracy([], store)


def test_one_client_has_no_barriers(store):
    with pytest.raises(LmcError, match="clients=1: must be at least 2, as barriers are between the first two"):
        lmc.unaveraged_layers([runs(clients=1)], [1], store, progress=False)


def test_a_dry_run_looks_all_of_them_up(store):
    specs = [runs(averaged="head"), runs(averaged="head", seed=5), runs(averaged="head", seed=6)]
    lmc.federated_accuracy([specs[0], specs[2]], store, progress=False)
    with dry_run() as found, pytest.raises(NotRun):
        lmc.federated_accuracy(specs, store)
    assert len(found.tables) == 2


def test_a_run_that_diverges_is_left_out_and_said(store):
    specs = [runs(seed=3), runs(seed=4, lr=1e30, local_epochs=3)]
    with pytest.warns(
        UserWarning, match=r"Dirichlet 0.5, averaged all, seed 4: left out, as lr=1e\+30: the loss of client"
    ):
        table = lmc.federated_accuracy(specs, store, progress=False)
    assert table.seed.unique().tolist() == [3]
    with pytest.warns(UserWarning, match="left out"), pytest.raises(LmcError, match=r"lr=1e\+30"):
        lmc.federated_accuracy(specs[1:], store, progress=False)
