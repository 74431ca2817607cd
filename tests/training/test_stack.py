"""Networks that train alone and in lock-step: how they lie in memory."""

import pytest
import torch
from torch import nn

from lmclib.networks import wide_batch
from lmclib.networks.build import build_model
from lmclib.networks.stacked import MEMBERS, Stack
from lmclib.training.recipe import Recipe
from lmclib.training.stack import TrainingStack

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class WrongInChannelsLast(nn.Conv2d):
    """A convolution with a wrong gradient in one layout, as some CPUs have it."""

    def forward(self, x):
        wrong = self.weight.is_contiguous(memory_format=torch.channels_last)
        return nn.functional.conv2d(x, self.weight + wrong * (self.weight - self.weight.detach()), self.bias)


def net(conv):
    return nn.Sequential(conv(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 10))


def test_convolutions_lie_in_channels_last_where_their_gradients_are_the_same():
    assert TrainingStack(net(nn.Conv2d), 1, IMAGES, Recipe(), "float32").channels_last
    wrong = TrainingStack(net(WrongInChannelsLast), 1, IMAGES, Recipe(), "float32")
    assert not wrong.channels_last
    assert wrong.stack.net[0].weight.is_contiguous()
    assert not TrainingStack(
        nn.Sequential(nn.Flatten(), nn.Linear(9, 10)), 1, torch.ones(2, 9), Recipe(), "float32"
    ).channels_last


@pytest.mark.parametrize("model", ["resnet8-w4", "resnet8-w4-fixup"])
def test_the_layout_changes_no_step(model):
    """But for rounding, which kinks of a ReLU can make large: one small step of a network in float64."""
    ends = []
    for layout in (True, False):
        stack = TrainingStack(build_model(model, (3, 16, 16), 10).double(), 1, IMAGES.double(), Recipe(), "float32")
        stack.channels_last = layout
        form = torch.channels_last if layout else torch.contiguous_format
        stack.stack.to(memory_format=form)
        stack.step(IMAGES.double()[:, None], torch.arange(6)[:, None], torch.tensor([0.1]))
        ends.append(stack.read(0)[0])
    for key, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "layout", "optimizer"),
    [
        ("resnet8-w4", True, "sgd"),
        ("resnet8-w5", False, "adamw"),
        ("vgg11-w4", True, "sgd"),
        ("mlp-10-10", False, "sgd"),
        ("vit-p4-d16-l2", False, "adamw"),
    ],
)
def test_a_member_has_the_same_bits_in_every_place(model, layout, optimizer):
    """Also where its channels do not fill a vector: then they lie one after the other."""
    images, targets = IMAGES[:, :1, :8, :8].contiguous(), torch.arange(6)
    net = build_model(model, (1, 8, 8), 10)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        states = [
            {key: value + 0.1 * torch.randn(value.shape) for key, value in net.state_dict().items()}
            for _ in range(MEMBERS)
        ]
    ends = []
    for place in range(MEMBERS):
        stack = TrainingStack(net, MEMBERS, images, Recipe(optimizer=optimizer, rho=0.05), "float32")
        assert (stack.stack.width, stack.channels_last) == (MEMBERS, layout)
        for k, state in enumerate(states[place:] + states[:place]):
            stack.stack.load(k, state)
        for _ in range(3):
            stack.step(
                images[:, None].repeat(1, MEMBERS, 1, 1, 1),
                targets[:, None].repeat(1, MEMBERS),
                torch.full((MEMBERS,), 0.1),
            )
        ends.append(stack.read(-place % MEMBERS)[0])
    for end in ends[1:]:
        assert all(torch.equal(value, end[key]) for key, value in ends[0].items())


@pytest.mark.parametrize(
    ("model", "optimizer"), [("resnet8-w4", "sgd"), ("vit-p2-d16-l2", "adamw"), ("mlp-10-10-tanh", "adamw")]
)
def test_members_take_the_steps_of_networks_alone(model, optimizer):
    """In float64, where rounding is small."""
    images, targets = IMAGES[:, :1, :8, :8].double(), torch.arange(6)
    net = build_model(model, (1, 8, 8), 10).double()
    recipe = Recipe(optimizer=optimizer)
    together = TrainingStack(net, MEMBERS, images, recipe, "float32")
    alone = TrainingStack(net, 1, images, recipe, "float32")
    assert (together.stack.width, together.channels_last) == (MEMBERS, model.startswith("resnet"))
    for stack in (together, alone):
        width = stack.stack.width
        for k in range(width):
            stack.stack.load(k, net.state_dict())
        stack.step(
            images[:, None].repeat(1, width, 1, 1, 1), targets[:, None].repeat(1, width), torch.full((width,), 0.1)
        )
    for key, value in alone.read(0)[0].items():
        torch.testing.assert_close(together.read(MEMBERS - 1)[0][key], value, rtol=1e-5, atol=1e-6)


class OnePatch(nn.Module):
    """Patches that leave a rest, a parameter for all examples, a layer that is never used, and what can be told to mix examples."""

    def __init__(self, mixes=False):
        super().__init__()
        self.patches, self.shift = nn.Conv2d(1, 4, (3, 2), (3, 2)), nn.Parameter(torch.ones(1, 4))
        self.unused, self.norm, self.out = nn.Linear(2, 2), nn.LayerNorm(4), nn.Linear(4, 10, bias=False)
        self.mixes = mixes

    def forward(self, x):
        x = self.norm(self.patches(x).mean((2, 3)) + self.shift)
        return self.out(x - x.mean(0) if self.mixes else x)


def test_what_is_for_all_examples_is_each_members_own():
    images = IMAGES[:, :1, :8, :7]
    stack = Stack(OnePatch(), 4, images)
    assert (stack.width, stack.form) == (4, wide_batch)
    assert {key: len(value) for key, value in stack.net.state_dict().items()} == dict.fromkeys(
        OnePatch().state_dict(), 4
    )


def test_networks_that_mix_examples_train_alone():
    assert Stack(OnePatch(mixes=True), 4, IMAGES[:, :1, :8, :7]).width == 1


def test_a_stack_of_what_has_no_gradient_only_evaluates():
    class Counts(nn.Sequential):
        def forward(self, x):
            return (super().forward(x) > 0).float()

    assert Stack(Counts(nn.Flatten(), nn.Linear(56, 3)), 4, IMAGES[:, :1, :8, :7]).width == 4
