"""What a GPU needs, tested without one: nothing is left on the wrong device, recordings are replayed, full memory is survived."""

import platform
import resource
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from networks import random_states
from torch import nn

import lmclib as lmc
from lmclib import capture, training
from lmclib.capture import Recorded, side_by_side
from lmclib.data import load_data
from lmclib.device import full_precision, keep_freed_memory
from lmclib.errors import LmcError
from lmclib.models import build_model
from lmclib.training import Lane, Layout, Recipe, Run, SeatedTraining, train

RECIPE = Recipe(epochs=2, batch_size=128, milestones=(1,))


@pytest.fixture
def other_device(monkeypatch):
    """A device that is not the CPU: meta computes shapes only, but refuses tensors of other devices, as a GPU does."""
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: torch.zeros(t.shape, dtype=t.dtype))
    monkeypatch.setattr(torch, "allclose", lambda *_, **__: True)
    monkeypatch.setattr(torch.Tensor, "__float__", lambda t: 1.0)
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda t: True)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    # the fused update knows no meta tensors
    monkeypatch.setattr(training, "sgd", lambda p, g, m, lr, **_: torch._foreach_sub_(p, torch._foreach_mul(g, lr)))
    return torch.device("meta")


@pytest.mark.parametrize("model", ["mlp-8", "resnet8-w4", "resnet8-w8-gn"])
def test_a_step_leaves_nothing_on_another_device(other_device, model):
    data = load_data("digits").to(other_device)
    net = build_model(model, data.shape, 10)
    state = net.state_dict()
    seated = SeatedTraining(net, data, RECIPE, Layout(lanes=3, seats=1), "float32")
    for k in range(2):
        seated.sit(k, Run(f"run {k}", (0, k), state, 0, 3, frozenset()))
    inputs = seated._inputs()
    changed = [tensor for lane in seated.lanes for tensor in lane.tensors()]
    assert Recorded(seated._step, inputs, changed)(*inputs).device == other_device


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16)])
def test_a_cube_leaves_nothing_on_another_device(other_device, shape):
    net = build_model("resnet8-w4", shape, 10)
    x, y = torch.zeros(6, *shape), torch.zeros(6, dtype=torch.long)
    for norm_stats in ("interpolate", "recompute"):
        cube = lmc.LayerCube(net, *random_states(net), (x, y), norm_stats=norm_stats, device=other_device)
        n = len(cube.layers)
        assert lmc.layer_barriers(cube).loss.shape == (3 * n,)
        assert cube(torch.rand(5, n)).loss.device.type == "cpu"
    cube = lmc.LayerCube(net, *random_states(net), (x, y), device=other_device)
    assert cube.gradient(0.5).shape == (n,)
    assert cube.hessian(0.5).shape == (n, n)
    assert cube.parameter_gradient(0.5).device.type == "cpu"
    lmc.prediction_table(cube)


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
        capture._stream.cache_clear()

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

    def lane(k):
        cuda.log.append((cuda.now[-1], f"lane {k}"))
        return total[k].add_(1).clone()

    def step(x):
        return torch.stack(side_by_side([partial(lane, 0), partial(lane, 1)], torch.device("cuda")))

    recorded = Recorded(step, [torch.ones(1)], [total])
    assert total.tolist() == [0, 0]
    beside, *lanes = (f"stream {k}" for k in (1, 2, 3))
    once = [part for k, at in enumerate(lanes) for part in ((at, "waits for", beside), (at, f"lane {k}"))]
    once += [(beside, "waits for", at) for at in lanes]
    warm_up = [(beside, "waits for", "main"), *once * capture.WARM_UPS, ("main", "waits for", beside)]
    assert cuda.log == [*warm_up, (beside, "records"), *once, (beside, "has recorded")]
    recorded(torch.ones(1))
    assert cuda.log[-1] == ("main", "replays")
    capture._stream.cache_clear()


def test_lanes_and_seats_train_the_same_networks():
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
    lane = Lane(nn.Conv2d(4, 4, 3), 1, torch.zeros(2, 4, 5, 5))
    weight, bias = (parameter.detach().clone() for parameter in lane.parameters)
    slopes = torch.randn(4, 4, 3, 3), torch.randn(4)
    lane.momentum[0].fill_(1)
    grads = [slopes[0].contiguous(memory_format=torch.channels_last), slopes[1]]
    with torch.no_grad():
        lane._update(grads, torch.tensor([0.1]), Recipe(momentum=0.5, weight_decay=0.01))
    torch.testing.assert_close(lane.parameters[0].detach(), weight - 0.1 * (0.5 + slopes[0] + 0.01 * weight))
    torch.testing.assert_close(lane.parameters[1].detach(), bias - 0.1 * (slopes[1] + 0.01 * bias))


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


def test_float32_is_without_tf32_and_what_was_set_comes_back():
    flags = torch.backends.cudnn
    before = flags.allow_tf32
    with full_precision():
        assert not flags.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert flags.allow_tf32 == before


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ValueError, match="precision"):
        lmc.ForkSpec(precision="fp8")


class Hungry(nn.Module):
    """A network that runs out of memory with more than `most` examples at a time."""

    def __init__(self, most: int):
        super().__init__()
        self.most, self.body, self.seen = most, nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), []

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("no room")
        return self.body(x)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs Linux's C library")
def test_a_large_tensor_is_freed_and_made_again_without_new_pages():
    assert keep_freed_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**24)  # 64 MB, 16,384 pages
    # not every time: aligned blocks leave gaps between them at first
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 10 * 16_384


def test_full_memory_halves_the_batch_and_goes_on():
    g = torch.Generator().manual_seed(0)
    data = torch.randn(50, 4, generator=g).double(), torch.randint(3, (50,), generator=g)
    states = random_states(Hungry(50))
    roomy = lmc.LayerCube(Hungry(50), *states, data)
    points = torch.eye(2) / 2
    for measure in (lambda cube: cube(points).loss, lambda cube: cube.hessian(0.5)):
        cube = lmc.LayerCube(Hungry(7), *states, data)
        with pytest.warns(UserWarning, match="out of memory; going on with") as said:
            measured = measure(cube)
        torch.testing.assert_close(measured, measure(roomy))
        assert [str(warning.message).split()[-5] for warning in said] == ["25", "12", "6"]
        measure(cube)  # the size stays: no other warning


def test_memory_for_no_example_at_all_is_an_error():
    net = Hungry(2)
    cube = lmc.LayerCube(net, *random_states(net), (torch.zeros(5, 4), torch.zeros(5, dtype=torch.long)))
    cube.model.most = 0
    cube._stack.net.most = 0
    with pytest.warns(UserWarning, match="out of memory"), pytest.raises(torch.OutOfMemoryError):
        cube(torch.rand(2, 2))
