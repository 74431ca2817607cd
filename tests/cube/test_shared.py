"""Points that are walked together are what each is alone, whatever a network does with its batch, and whatever sizes coincide."""

import pytest
import torch
from reference import plain_loop, random_states
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.networks.build import build_model

SAME = 6  # examples, steps of a sequence and channels: no size tells one from another


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def batch(*shape: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=g, dtype=torch.float64), torch.randint(3, (shape[0],), generator=g)


def sweep_and_staircase(n: int) -> Tensor:
    eye = torch.eye(n, dtype=torch.float64)
    return torch.cat([eye / 2, 1 - eye / 2, torch.ones(n, n, dtype=torch.float64).tril() / 2])


class Between(nn.Module):
    """A function between layers, twice."""

    def __init__(self, function=lambda x: x):
        super().__init__()
        self.function, self.first, self.last = function, nn.Linear(SAME, SAME), nn.Linear(SAME, 3)
        self.one, self.two = nn.Linear(SAME, SAME), nn.Linear(SAME, SAME)

    def forward(self, x):
        x = self.function(torch.tanh(self.first(x)))
        x = self.function(torch.tanh(self.one(x)))
        return self.last(torch.tanh(self.two(x)))[:, -1]


# what a row comes to depends on no other, but some steps on the way have their sequences, not their examples, in the first dimension
OF_EACH = {
    "cumulative sums of a sequence": lambda x: x.transpose(0, 1).cumsum(0).transpose(0, 1),
    "differences along a sequence": lambda x: torch.diff(x.transpose(0, 1), dim=0, prepend=x[None, :, 0]).transpose(
        0, 1
    ),
    "a sequence backwards": lambda x: x.mT.transpose(0, 2).flip(0).transpose(0, 2).mT,
    "softmax over a sequence": lambda x: F.softmax(x.permute(1, 0, 2), 0).permute(1, 0, 2),
    "norms of a sequence": lambda x: F.normalize(x.swapaxes(0, 1), dim=0).swapaxes(0, 1),
    "sorted sequences": lambda x: x.transpose(0, 1).sort(0)[0].transpose(0, 1),
    "views by the length of the batch": lambda x: x.view(x.shape[0], -1).view(x.size(0), SAME, SAME),
    "an index for each example": lambda x: x + 0 * torch.arange(x.shape[0])[:, None, None],
    "every other feature": lambda x: torch.cat([x[..., ::2], x[..., 1::2]], -1),
    "a mask of the whole batch": lambda x: x * torch.ones_like(x).tril(),
    "a constant": lambda x: x * torch.linspace(1, 2, SAME),
    "products within a row": lambda x: x @ x.mT,
}
# what a row comes to depends on the others
ACROSS = {
    "the mean": lambda x: x - x.mean(0),
    "the mean, kept": lambda x: x * x.mean(0, keepdim=True),
    "the largest": lambda x: x - x.amax(0),
    "softmax": lambda x: F.softmax(x, 0),
    "cumulative sums": lambda x: x.cumsum(0),
    "backwards": lambda x: x + x.flip(0) * torch.linspace(0, 1, SAME),
    "rolled": lambda x: x + torch.roll(x, 1, 0),
    "sorted": lambda x: x.sort(0).values,
    "every other": lambda x: x[::2].repeat_interleave(2, 0)[: x.shape[0]],
    "every third": lambda x: x[::3].repeat_interleave(3, 0)[: x.shape[0]],
    "the first two": lambda x: x + x[:2].sum(0),
    "a view of a fixed length": lambda x: x.reshape(SAME, -1).cumsum(0).reshape(x.shape),
    "transposed by mistake": lambda x: x + x.transpose(0, 1).contiguous().view_as(x),
    "as many as there are": lambda x: x / x.shape[0],
    "the place in the batch": lambda x: x * torch.arange(x.shape[0])[:, None, None],
    "products of rows": lambda x: torch.einsum("bsd,csd,cte->bte", x, x, x),
    "distances": lambda x: x * torch.cdist(x.flatten(1), x.flatten(1)).sum(1)[:, None, None],
    "norms": lambda x: F.normalize(x, dim=0),
    "a deviation": lambda x: x / x.std(0),
}


@pytest.mark.parametrize("name", [*OF_EACH, *ACROSS])
def test_functions_of_a_batch_equal_the_plain_loop(name):
    function = (OF_EACH | ACROSS)[name]
    t1, t2 = random_states(Between())
    x, y = batch(SAME, SAME, SAME)
    cube = lmc.LayerCube(Between(function), t1, t2, (x, y))
    points = sweep_and_staircase(4)
    losses, errors = plain_loop(Between(function), t1, t2, cube.layers, points, x, y)
    values = cube(points)
    torch.testing.assert_close(values.loss, torch.tensor(losses, dtype=torch.float64), rtol=1e-12, atol=0)
    torch.testing.assert_close(values.error, torch.tensor(errors, dtype=torch.float64), rtol=0, atol=1e-12)
    assert values.loss.std() > 1e-4  # points differ
    assert cube._shares(points) == (name in OF_EACH)


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.attention = nn.Linear(SAME, SAME), nn.MultiheadAttention(SAME, 2)
        self.recurrent, self.two = nn.GRU(SAME, SAME), nn.Linear(SAME, 3)

    def forward(self, x):
        x = self.one(x).transpose(0, 1)
        x = x + self.attention(x, x, x)[0]
        return self.two(self.recurrent(x)[0][-1])


class SequenceFirst(nn.Module):
    """Takes (S, B, D): examples in the second dimension."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(SAME, SAME), nn.Linear(SAME, SAME), nn.Linear(SAME, 3)

    def forward(self, x):
        return self.three(torch.tanh(self.two(torch.tanh(self.one(x)).cumsum(0))))[-1]


class Bounded(nn.Module):
    """Writes over its embedding, whose rows it shortens."""

    def __init__(self):
        super().__init__()
        self.rows, self.two, self.three = nn.Embedding(9, SAME, max_norm=1), nn.Linear(SAME, SAME), nn.Linear(SAME, 3)

    def forward(self, x):
        return self.three(torch.tanh(self.two(self.rows(x.argmax(-1)))))[:, 0]


class Patches(VisionTransformer):
    """Sees an input as an image."""

    def __init__(self):
        super().__init__(SAME, 3, 2, 2, 8, 8, num_classes=3)

    def forward(self, x):
        return super().forward(x[:, None].expand(-1, 3, -1, -1))


class OwnStatistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.norm = nn.Linear(SAME, SAME), nn.BatchNorm1d(SAME, track_running_stats=False)
        self.two, self.three = nn.Linear(SAME, SAME), nn.Linear(SAME, 3)

    def forward(self, x):
        return self.three(torch.tanh(self.two(self.norm(self.one(x)))))[:, 0]


class Gated(nn.Module):
    """A gate that a new network leaves closed: what is behind it shows in trained ones only."""

    def __init__(self):
        super().__init__()
        self.one, self.gate = nn.Linear(SAME, SAME), nn.Parameter(torch.zeros(1))
        self.two, self.three = nn.Linear(SAME, SAME), nn.Linear(SAME, 3)

    def forward(self, x):
        x = self.one(x)
        return self.three(torch.tanh(self.two(x + self.gate * x.flip(0))))[:, 0]


class Overwriting(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(SAME, SAME), nn.Linear(SAME, SAME), nn.Linear(SAME, 3)

    def forward(self, x):
        out = self.one(x)
        F.relu(out, True)
        torch.tanh_(out)
        return self.three(F.elu(self.two(out), 1.0, True) + out)[:, 0]


@pytest.mark.parametrize(
    ("network", "shares"),
    [
        (Attentive, True),
        (Patches, True),
        (Bounded, False),
        (SequenceFirst, False),
        (OwnStatistics, False),
        (Gated, False),
        (Overwriting, False),
    ],
)
def test_modules_that_mind_their_batch_equal_the_plain_loop(network, shares):
    t1, t2 = random_states(network())
    x, y = batch(SAME, SAME, SAME)
    cube = lmc.LayerCube(network(), t1, t2, (x, y))
    points = sweep_and_staircase(len(cube.layers))
    before = {key: value.clone() for key, value in t1.items()}
    alone = network().double().eval()
    for point, loss in zip(points, cube(points).loss, strict=True):
        alone.load_state_dict(cube.state(point))
        with torch.no_grad():
            torch.testing.assert_close(F.cross_entropy(alone(x), y), loss, rtol=1e-12, atol=0)
    assert cube._shares(points) == shares
    assert all(torch.equal(t1[key], value) for key, value in before.items())


@pytest.mark.parametrize("examples", [1, 2, 3, 4])
def test_few_or_equal_examples_do_not_hide_what_goes_on_between_rows(examples):
    function = ACROSS["the largest"]
    t1, t2 = random_states(Between())
    x, y = batch(1, SAME, SAME)
    x, y = x.repeat(examples, 1, 1), y.repeat(examples)
    cube = lmc.LayerCube(Between(function), t1, t2, (x, y))
    points = sweep_and_staircase(4)
    losses, _ = plain_loop(Between(function), t1, t2, cube.layers, points, x, y)
    torch.testing.assert_close(cube(points).loss, torch.tensor(losses, dtype=torch.float64), rtol=1e-12, atol=0)


def test_batches_of_a_network_that_minds_them_stay_as_they_are_given():
    """A walk that shares passes would cut them, or join them, to sizes of its own."""
    function = ACROSS["softmax"]
    t1, t2 = random_states(Between())
    x, y = batch(50, SAME, SAME)
    cube = lmc.LayerCube(Between(function), t1, t2, (x, y), batch_size=20)
    points = sweep_and_staircase(4)
    total = 0
    for xs, ys in zip(x.split(20), y.split(20), strict=True):
        losses, _ = plain_loop(Between(function), t1, t2, cube.layers, points, xs, ys)
        total += torch.tensor(losses, dtype=torch.float64) * len(ys) / 50
    torch.testing.assert_close(cube(points).loss, total, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["resnet8-w4", "resnet8-w4-gn", "mlp-6-6"])
def test_networks_of_the_book_still_share(name):
    model = build_model(name, (1, 8, 8), 10)
    t1, t2 = ({k: v.to(torch.float32) for k, v in state.items()} for state in random_states(model))
    cube = lmc.LayerCube(model, t1, t2, (torch.randn(8, 1, 8, 8), torch.arange(8)))
    assert cube._shares(sweep_and_staircase(len(cube.layers)))
    assert sum(cube._shared.rowwise) > 0.8 * len(cube._shared.rowwise)


class Shuffled(nn.Module):
    """An integer buffer that decides what is computed."""

    def __init__(self, order):
        super().__init__()
        self.register_buffer("order", torch.tensor(order))
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.two(torch.tanh(self.one(x)[:, self.order]))


def test_integer_buffers_are_model_1s_wherever_the_network_is_computed():
    t1, t2 = random_states(Shuffled([2, 0, 1]))
    g = torch.Generator().manual_seed(0)
    data = torch.randn(6, 3, generator=g, dtype=torch.float64), torch.randint(3, (6,), generator=g)
    right, other = (lmc.LayerCube(Shuffled(order), t1, t2, data) for order in ([2, 0, 1], [0, 1, 2]))
    points = sweep_and_staircase(2)
    for measure in (
        lambda c: c(points).loss,
        lambda c: c.gradient(0.5),
        lambda c: torch.tensor(lmc.predict_curve(c, 3, "taylor3").loss_barrier.tolist()),
    ):
        assert torch.equal(measure(right), measure(other))


def test_inputs_and_targets_of_a_batch_are_as_many():
    """Examples in the second dimension would be taken for those in the first, and cut."""
    t1, t2 = random_states(SequenceFirst())
    x, _ = batch(8, 5, SAME)
    with pytest.raises(LmcError, match=r"data: 8 inputs and 5 targets in a batch; both go along the first dimension"):
        lmc.LayerCube(SequenceFirst(), t1, t2, [(x, torch.zeros(5, dtype=torch.long))])
