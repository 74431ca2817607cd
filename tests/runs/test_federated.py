"""Federated runs against what they must equal: one step on the joint batch, independent training, what was not averaged."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lmclib as lmc
from lmclib.data.clients import Client
from lmclib.data.dataset import Dataset, Split
from lmclib.errors import LmcError
from lmclib.runs.federated import choose_layers
from lmclib.runs.local_training import bytes_of
from lmclib.store.dry_run import NotRun, dry_run
from lmclib.store.store import Store

LAYERS = ("body.0", "fc")
SIZES = (3, 5, 8)


def data(shift=0) -> Dataset:
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (sum(SIZES), 1, 8, 8), generator=g, dtype=torch.uint8)
    split = Split(x, torch.arange(len(x)) % 3)
    return Dataset("noise", ("a", "b", "c"), split, split, shift=shift)


def clients():
    parts = torch.arange(sum(SIZES)).split(SIZES)
    return [Client(part, part) for part in parts]


def training(model="mlp-6", seed=1, dtype=torch.float32, shift=0, **how) -> lmc.LocalTraining:
    net = lmc.build_model(model, (1, 8, 8), 3, seed=0).to(dtype)
    given = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2, "batch_size": 4, "seed": seed, **how}
    return lmc.LocalTraining(net, data(shift), given.pop("clients", clients()), **given)


def assert_same(one, two, keys=None):
    for key in keys or one:
        assert torch.equal(one[key], two[key]), key


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_one_step_each_and_the_average_is_one_step_on_the_joint_batch(momentum):
    """Weights by size make the mean of the clients' gradients that of all examples."""
    own = training(dtype=torch.float64, batch_size=8, momentum=momentum)
    net, everything = copy.deepcopy(own.nets[0]), data()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=momentum, weight_decay=1e-2)
    F.cross_entropy(net(everything.pair("train", torch.float64)[0]), everything.train.y).backward()
    optimiser.step()
    own.train_epoch()
    before = copy.deepcopy(own.states)
    own.average(LAYERS)
    for key, expected in net.state_dict().items():
        assert (before[0][key] - expected).abs().max() > 1e-4, "a client alone does as well"
        for state in own.states:
            torch.testing.assert_close(state[key], expected, rtol=0, atol=1e-6)


def test_local_sgd_is_that_of_torch():
    """Several epochs with momentum and weight decay, batches in the order of the client's own stream."""
    from lmclib.training.order import epoch_order

    own = training(dtype=torch.float64)
    net, (x, y) = copy.deepcopy(own.nets[0]), data().pair("train", torch.float64)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    part = clients()[2].train
    for epoch in range(3):
        own.train_epoch()
        order, *_ = epoch_order((2, 1, 2), epoch, data(), part)
        for batch in order.split(4):
            optimiser.zero_grad()
            F.cross_entropy(net(x[batch]), y[batch]).backward()
            optimiser.step()
    for key, expected in net.state_dict().items():
        torch.testing.assert_close(own.states[2][key], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", ["mlp-6", "resnet8-w2"])
def test_without_averaging_each_client_trains_as_if_it_were_alone(model):
    together = training(model, shift=1)
    lmc.federated_rounds(together, [], rounds=2, local_epochs=2, keep_momentum=True)
    for k, client in enumerate(clients()):
        alone = training(model, shift=1, clients=[client], numbers=[k])
        for _ in range(5):  # two rounds of two, and one more
            alone.train_epoch()
        assert_same(together.states[k], alone.states[0])


def test_only_the_chosen_layers_are_averaged():
    own, local = (training("resnet8-w2") for _ in range(2))
    names = [layer.name for layer in own.layers]
    chosen = {"norm", "fc"}
    assert chosen < set(names)
    own.train_epoch()
    local.train_epoch()
    own.average(chosen)
    moved = {key for layer in own.layers if layer.name in chosen for key in layer.keys}
    assert "norm.running_var" in moved
    assert "norm.num_batches_tracked" not in moved
    for mine, before in zip(own.states, local.states, strict=True):
        assert_same(mine, before, set(mine) - moved)
        assert_same(mine, own.states[0], moved)
        assert not any(torch.equal(mine[key], before[key]) for key in moved)


def test_all_layers_are_all_numbers_of_the_network():
    own = training("resnet8-w2")
    own.train_epoch()
    own.average([layer.name for layer in own.layers])
    for state in own.states:
        assert_same(state, own.states[0], [key for key in state if state[key].is_floating_point()])


def test_the_average_is_weighted_by_size():
    own = training()
    for state, height in zip(own.states, (1.0, 2.0, 4.0), strict=True):
        state["fc.bias"].fill_(height)
    own.average(["fc"])
    assert own.states[1]["fc.bias"].tolist() == pytest.approx([(3 * 1 + 5 * 2 + 8 * 4) / 16] * 3)


def test_momentum_is_kept_or_forgotten():
    def end(keep):
        own = training()
        lmc.federated_rounds(own, LAYERS, rounds=2, local_epochs=1, keep_momentum=keep)
        return own.states[0]["fc.weight"]

    assert not torch.equal(end(True), end(False))


def test_a_row_a_round_says_what_the_clients_can():
    """Against the same rounds by hand, the last client looked at closely."""
    own, again = training(), training()
    table = lmc.federated_rounds(own, LAYERS, rounds=2, local_epochs=1, keep_momentum=True)
    x, y = data().pair("train")

    def correct(k):
        net = copy.deepcopy(again.nets[0])
        net.load_state_dict(again.states[k])
        part = clients()[k].test
        return float((net.eval()(x[part]).argmax(1) == y[part]).double().mean()), net(x)

    again.train_epoch()
    again.average(LAYERS)
    averaged = [correct(k)[0] for k in range(3)]
    outputs = correct(0)[1]
    again.train_epoch()
    tuned = [correct(k)[0] for k in range(3)]
    first = table.iloc[0]
    assert first.local_accuracy == pytest.approx(sum(averaged) / 3)
    assert first.worst_local_accuracy == pytest.approx(min(averaged))
    assert first.tuned_accuracy == pytest.approx(sum(tuned) / 3)
    assert first.worst_tuned_accuracy == pytest.approx(min(tuned))
    assert first.own_error == pytest.approx(1 - sum(tuned) / 3)  # here the test examples are the training examples
    assert first.loss == pytest.approx(F.cross_entropy(outputs, y).item(), rel=1e-5)
    assert first.accuracy == pytest.approx(float((outputs.argmax(1) == y).double().mean()))
    assert first.bytes == 2 * 3 * 4 * (64 * 6 + 6 + 6 * 3 + 3)
    assert table["round"].tolist() == [1, 2]


def test_the_whole_network_is_judged_only_where_it_is_averaged():
    table = lmc.federated_rounds(training(), ["fc"], rounds=1, local_epochs=1, keep_momentum=True)
    assert table[["loss", "accuracy"]].isna().all(axis=None)
    assert table.bytes.item() == 2 * 3 * 4 * (6 * 3 + 3)


def test_bytes_count_a_shared_tensor_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    from lmclib.networks.layers import find_layers

    net = Tied()
    layers = find_layers(net, torch.zeros(2, 3))
    assert bytes_of(layers, [layer.name for layer in layers], net.state_dict()) == 9 * 4


def test_a_loss_that_explodes_is_said():
    own = training(lr=1e30)
    with pytest.raises(LmcError, match=r"lr=1e\+30: the loss of client 1 is no longer finite in epoch 1"):
        lmc.federated_rounds(own, LAYERS, rounds=3, local_epochs=1, keep_momentum=True)


ORDER = ("a", "c", "b")  # by barrier


@pytest.mark.parametrize(
    ("averaged", "expected"),
    [
        ("all", "abc"),
        ("none", ""),
        ("body", "ab"),
        ("head", "c"),
        ("top:2", "ac"),
        ("bottom:2", "bc"),
        ("top:3", "abc"),
        (["c", "a"], "ac"),
    ],
)
def test_sets_of_layers(averaged, expected):
    assert choose_layers(averaged, tuple("abc"), lambda: ORDER) == tuple(expected)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"averaged": "bdy"}, "averaged='bdy': no such layer; did you mean 'body'?"),
        (
            {"averaged": ["fc", "body.00"]},
            "averaged='body.00': no such layer; did you mean 'body.0'? must be all, none",
        ),
        ({"averaged": "fc + nothing like it"}, "no such layer; the layers are body.0, body.2, fc; must be all, none"),
        ({"averaged": "top:0"}, "averaged='top:0': must name from 1 to 3 layers"),
        ({"averaged": "top:4"}, "averaged='top:4': must name from 1 to 3 layers"),
        ({"averaged": "top:1", "clients": 1}, "clients=1: must be at least 2 for averaged='top:1'"),
        ({"clients": 1438}, "clients=1438: must be from 1 to the number of training examples, 1437"),
        ({"split": "dirichlet", "beta": float("nan")}, "beta=nan: must be a finite number"),
        ({"split": "shards", "shards": 2000}, "shards=2000: must be from 1 to 71"),
        ({"model": "mpl-6"}, "model='mpl-6': must be one of"),
        ({"data": "digit"}, "data='digit': must be 'digits'"),
    ],
)
def test_what_cannot_be_run_is_one_line_before_any_compute(given, said, tmp_path, monkeypatch):
    monkeypatch.setattr(lmc.LocalTraining, "train_epoch", lambda self: pytest.fail("computes"))
    with pytest.raises(LmcError) as caught:
        lmc.Federation(lmc.FederatedSpec(**{"model": "mlp-6-6", **given}), Store(tmp_path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


SPEC = lmc.FederatedSpec(model="mlp-4", clients=3, rounds=1, local_epochs=1)


def test_rounds_are_remembered_by_what_decides_them(tmp_path, monkeypatch):
    def table(**changes):
        return lmc.Federation(SPEC.model_copy(update=changes), Store(tmp_path)).rounds(lmc.first_barriers)

    first = table()
    trained = []
    epoch = lmc.LocalTraining.train_epoch
    monkeypatch.setattr(lmc.LocalTraining, "train_epoch", lambda self: (trained.append(1), epoch(self)))
    assert table().equals(first)
    assert table(beta=0.1).equals(first)  # which an i.i.d. split does not use
    assert not trained
    for changes in (
        {"seed": 1},
        {"lr": 0.01},
        {"split": "shards"},
        {"keep_momentum": True},
        {"local_epochs": 2},
        {"clients": 2},
    ):
        before = len(trained)
        table(**changes)
        assert len(trained) > before, changes


def test_a_dry_run_computes_nothing(tmp_path):
    with dry_run(), pytest.raises(NotRun, match="federated_rounds: not measured yet"):
        lmc.Federation(SPEC, Store(tmp_path / "none")).rounds(lmc.first_barriers)
    assert not (tmp_path / "none").exists()


def test_looking_up_builds_no_network(tmp_path, monkeypatch):
    store = Store(tmp_path)
    spec = SPEC.model_copy(update={"averaged": "top:1"})
    table = lmc.Federation(spec, store).rounds(lmc.first_barriers)
    monkeypatch.setattr("lmclib.runs.federated.initialise", lambda *_: pytest.fail("builds"))
    monkeypatch.setattr("lmclib.runs.federated._layers_by_name", lambda *_: pytest.fail("builds"))
    monkeypatch.setattr("lmclib.runs.federated.load_data", lambda *_: pytest.fail("loads"))
    with dry_run():
        assert lmc.Federation(spec, store).rounds(lmc.first_barriers).equals(table)
