"""Networks for tests: random state dicts, and the plain loop that defines what a cube's value is."""

import torch
from torch import nn
from torch.nn import functional as F


def random_states(model: nn.Module, n: int = 2) -> list[dict]:
    """State dicts of one architecture with different weights and plausible statistics, float64."""
    states = []
    for seed in range(n):
        g = torch.Generator().manual_seed(seed)
        state = {}
        for key, value in model.state_dict().items():
            noise = torch.randn(value.shape, generator=g, dtype=torch.float64)
            if not value.is_floating_point():
                state[key] = value.clone()
            elif key.endswith("running_var"):
                state[key] = 1 + 0.3 * noise.abs()
            else:
                state[key] = value.double() + 0.05 * noise
        states.append(state)
    return states


def plain_loop(model: nn.Module, t1: dict, t2: dict, layers: tuple, points: torch.Tensor, x, y) -> tuple[list, list]:
    """Load each interpolated state dict, evaluate: the definition, one point at a time."""
    model = model.double().eval()
    owner = {key: i for i, name in enumerate(layers) for key in t1 if key.rpartition(".")[0] == name}
    losses, errors = [], []
    for point in points:
        state = {}
        for key, value in t1.items():
            moves = key in owner and value.is_floating_point()
            state[key] = value + point[owner[key]] * (t2[key] - value) if moves else value
        model.load_state_dict(state)
        with torch.no_grad():
            out = model(x)
        losses.append(F.cross_entropy(out, y).item())
        errors.append((out.argmax(1) != y).double().mean().item())
    return losses, errors
