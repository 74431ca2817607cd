"""Training many small networks at once: a stack of them, each with batches of its own."""

import torch
from torch import Tensor

from lmclib.errors import LmcError
from lmclib.theory.linear_networks import Weights, outputs, squared


def train(weights: Weights, x: Tensor, y: Tensor, steps: int, lr: float, seed: int, **network) -> list[Tensor]:
    """Plain SGD on a stack of networks together, each with mini-batches of 32 of its own.

    Args:
        weights: L tensors (N, d_k, d_{k-1}); left as they are.
        x: inputs (n, d_0) that all share.
        y: targets (n, d_L).
        steps: of SGD.
        lr: the learning rate.
        seed: draws the batches.
        **network: `activation` and `loss`, as in `cut_losses`.

    Raises:
        LmcError: a loss that is no longer finite.

    Example:
        >>> start = [torch.full((1, 1, 1), w) for w in (0.5, 1.0)]
        >>> round(float(torch.stack(train(start, torch.ones(4, 1), torch.ones(4, 1), 200, 0.1, 0)).prod()), 4)
        1.0
    """
    loss, activation = network.get("loss", squared), network.get("activation")
    generator = torch.Generator().manual_seed(seed)
    weights = [w.detach().clone().requires_grad_() for w in weights]
    for step in range(steps):
        batch = torch.randint(0, len(x), (len(weights[0]), 32), generator=generator)
        value = loss(outputs(weights, x[batch], activation), y[batch]).sum()
        if not value.isfinite():
            raise LmcError(f"lr={lr}: the loss diverged at step {step}; must be lower")
        with torch.no_grad():
            for w, g in zip(weights, torch.autograd.grad(value, weights), strict=True):
                w -= lr * g
    return [w.detach() for w in weights]
