"""Networks by name: how they start."""

import torch
from torch.nn import functional as F

from lmclib.networks.build import build_model


def test_fixup_starts_as_the_identity_and_trains():
    """Every block gives what its shortcut does, all classes are as likely, and each layer moves within a few steps."""
    model = build_model("resnet14-w4-fixup", (1, 8, 8), 10)
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 1, 8, 8, generator=g), torch.randint(10, (20,), generator=g)
    with torch.no_grad():
        value = F.relu(model.conv(x))
        for block in model.stages:
            torch.testing.assert_close(block(value), F.relu(block.shortcut(value)))
            value = block(value)
        assert not model(x).any()
    plain = build_model("resnet14-w4-none", (1, 8, 8), 10)
    assert plain(x).std() > 0
    torch.testing.assert_close(model.stages[0].conv1.weight * 6**0.5, plain.stages[0].conv1.weight)
    before = {key: value.clone() for key, value in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()
    assert not [key for key, value in model.named_parameters() if torch.equal(value, before[key])]
