"""What a GPU needs, tested without one: nothing is left on the wrong device, recordings are replayed, full memory is survived."""

from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lmclib.data.load import load_data
from lmclib.errors import LmcError
from lmclib.networks.build import build_model
from lmclib.training import graph
from lmclib.training.graph import Recorded, side_by_side
from lmclib.training.loop import JointTraining, Layout, train
from lmclib.training.recipe import Recipe
from lmclib.training.run import Run
from lmclib.training.stack import TrainingStack

RECIPE = Recipe(epochs=2, batch_size=128, milestones=(1,))


@pytest.mark.parametrize("model", ["mlp-8", "resnet8-w4", "resnet8-w8-gn"])
def test_a_step_leaves_nothing_on_another_device(other_device, model):
    data = load_data("digits").to(other_device)
    net = build_model(model, data.shape, 10)
    state = net.state_dict()
    joint = JointTraining(net, data, RECIPE, Layout(streams=3, members=1), "float32")
    for k in range(2):
        joint.enter(k, Run(f"run {k}", (0, k), state, 0, 3, frozenset()))
    inputs = joint._inputs()
    changed = [tensor for stack in joint.stacks for tensor in stack.tensors()]
    assert Recorded(joint._step, inputs, changed)(*inputs).device == other_device


def test_a_recording_is_replayed_and_leaves_no_trace():
    weight = torch.ones(3)

    def step(x):
        weight.mul_(0.5).add_(x)
        return weight.sum()

    recorded = Recorded(step, [torch.full((3,), 7.0)], [weight])
    assert weight.tolist() == [1, 1, 1]
    first = recorded(torch.ones(3))
    assert (first.item(), weight.tolist()) == (4.5, [1.5] * 3)
    second = recorded(torch.zeros(3))
    assert second is first  # one buffer: what is kept must be copied
    assert second.item() == 2.25
    with pytest.raises(LmcError, match=r"takes torch.float32 \(3,\), not torch.float32 \(2,\)"):
        recorded(torch.ones(2))


class Streams:
    """Stands in for `torch.cuda`: writes down which stream waits for which, and what is done on each."""

    def __init__(self, monkeypatch):
        self.log, self.now, self.made = [], ["main"], 0
        for name in ("Stream", "stream", "current_stream", "graph", "CUDAGraph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
        graph._stream.cache_clear()

    def Stream(self):
        self.made += 1
        return self.handle(f"stream {self.made}")

    def handle(self, name):
        return SimpleNamespace(name=name, wait_stream=lambda other: self.log.append((name, "waits for", other.name)))

    def current_stream(self):
        return self.handle(self.now[-1])

    def CUDAGraph(self):
        return SimpleNamespace(replay=lambda: self.log.append((self.now[-1], "replays")))

    @contextmanager
    def stream(self, stream):
        self.now.append(stream.name)
        yield
        self.now.pop()

    @contextmanager
    def graph(self, graph, stream, capture_error_mode):
        self.log.append((stream.name, "records"))
        with self.stream(stream):
            yield
        self.log.append((stream.name, "has recorded"))


def test_streams_wait_for_each_other(monkeypatch):
    """What is done beside the main stream starts after what came before on it, and ends before what comes after."""
    cuda = Streams(monkeypatch)
    total = torch.zeros(2)

    def stack(k):
        cuda.log.append((cuda.now[-1], f"stack {k}"))
        return total[k].add_(1).clone()

    def step(x):
        return torch.stack(side_by_side([partial(stack, 0), partial(stack, 1)], torch.device("cuda")))

    recorded = Recorded(step, [torch.ones(1)], [total])
    assert total.tolist() == [0, 0]
    beside, *stacks = (f"stream {k}" for k in (1, 2, 3))
    once = [part for k, at in enumerate(stacks) for part in ((at, "waits for", beside), (at, f"stack {k}"))]
    once += [(beside, "waits for", at) for at in stacks]
    warm_up = [(beside, "waits for", "main"), *once * graph.WARM_UPS, ("main", "waits for", beside)]
    assert cuda.log == [*warm_up, (beside, "records"), *once, (beside, "has recorded")]
    recorded(torch.ones(1))
    assert cuda.log[-1] == ("main", "replays")
    graph._stream.cache_clear()


def test_streams_and_members_train_the_same_networks():
    """Side by side or in lock-step: the same SGD, up to rounding."""
    data, ends = load_data("digits"), {}
    net = build_model("mlp-8", data.shape, 10)
    for layout in (Layout(1, 4), Layout(4, 1), Layout(2, 2)):
        runs = [Run(f"run {k}", (7, k), net.state_dict(), 0, 3 + k, frozenset()) for k in range(6)]
        train(
            net, data, RECIPE, runs, lambda run, s, m, to=layout: ends.update({(to, run.name): s}) or [], layout=layout
        )
    for (_, name), state in ends.items():
        for key, value in state.items():
            torch.testing.assert_close(value, ends[Layout(1, 4), name][key], rtol=1e-4, atol=1e-6)
    assert len(ends) == 18


def test_an_update_does_not_mind_how_gradients_lie_in_memory():
    recipe = Recipe(momentum=0.5, weight_decay=0.01)
    stack = TrainingStack(nn.Conv2d(4, 4, 3), 1, torch.zeros(2, 4, 5, 5), recipe, "float32")
    weight, bias = (parameter.detach().clone() for parameter in stack.parameters)
    slopes = torch.randn(4, 4, 3, 3), torch.randn(4)
    stack.optimiser.velocity[0].fill_(1)
    grads = [slopes[0].contiguous(memory_format=torch.channels_last), slopes[1]]
    stack.optimiser.update(grads, torch.tensor([0.1]))
    torch.testing.assert_close(stack.parameters[0].detach(), weight - 0.1 * (0.5 + slopes[0] + 0.01 * weight))
    torch.testing.assert_close(stack.parameters[1].detach(), bias - 0.1 * (slopes[1] + 0.01 * bias))


@pytest.mark.parametrize("layout", [Layout(1, 4), Layout(2, 1)])
def test_bf16_trains_float32_weights(layout):
    data, ends = load_data("digits"), {}
    net = build_model("resnet8-w4", data.shape, 10)
    for precision in ("float32", "bf16"):
        runs = [Run("run", (7, 1), net.state_dict(), 0, 8, frozenset())]
        at_end = lambda run, s, m, to=precision: ends.update({to: s}) or []  # noqa: E731
        train(net, data, RECIPE, runs, at_end, layout=layout, precision=precision)
    one, other = (torch.cat([v.flatten() for k, v in ends[p].items() if "weight" in k]) for p in ("float32", "bf16"))
    assert other.dtype == torch.float32
    assert not torch.equal(one, other)
    start = torch.cat([v.flatten() for k, v in net.state_dict().items() if "weight" in k])
    assert (one - other).norm() < 0.3 * (one - start).norm()
