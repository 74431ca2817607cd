r"""Many small perceptrons trained at once, each on data and in an order of its own, with a snapshot after every epoch.

A perceptron is $f(x) = W_L \sigma(\cdots \sigma(W_1 x + b_1) \cdots) + b_L$ with $\sigma = \max(0, \cdot)$. A stack of N of them is a list of L
pairs of weights (N, d_k, d_{k-1}) and biases (N, d_k).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lmclib.errors import LmcError

Stack = list[tuple[Tensor, Tensor]]


def train_perceptrons(
    start: Sequence[tuple[Tensor, Tensor]],
    x: Tensor,
    y: Tensor,
    epochs: int,
    lr: float,
    batch_size: int,
    generators: Sequence[torch.Generator],
) -> list[Stack]:
    """Plain SGD on the cross-entropy: no momentum, no weight decay; the last batch of an epoch is what is left.

    Args:
        start: L pairs of weights (N, d_k, d_{k-1}) and biases (N, d_k); left as they are.
        x: inputs (N, n, d_0), a set for each network.
        y: labels (N, n).
        epochs: passes over the data.
        lr: the learning rate.
        batch_size: examples a step.
        generators: N sources of randomness; each draws its network's order, an epoch at a time.

    Returns:
        The stack at the start and after every epoch: copies, none of which changes later.

    Raises:
        LmcError: a loss that is no longer finite.

    Example:
        >>> start = [(torch.zeros(1, 2, 1), torch.zeros(1, 2))]
        >>> x, y = torch.tensor([[[-1.0], [1.0]]]), torch.tensor([[0, 1]])
        >>> snapshots = train_perceptrons(start, x, y, 1, 1.0, 2, [torch.Generator()])
        >>> snapshots[0][0][0].flatten().tolist(), snapshots[1][0][0].flatten().tolist()
        ([0.0, 0.0], [-0.5, 0.5])
    """
    layers = [tuple(part.detach().clone().requires_grad_() for part in pair) for pair in start]
    parameters = [part for pair in layers for part in pair]
    which = torch.arange(len(x))[:, None]
    snapshots = [_copied(layers)]
    for epoch in range(epochs):
        order = torch.stack([torch.randperm(x.shape[1], generator=generator) for generator in generators])
        for batch in order.split(batch_size, dim=1):
            out = perceptron_outputs(layers, x[which, batch])
            # each network's own mean, so that their sum leaves every gradient what it is alone
            loss = F.cross_entropy(out.flatten(0, 1), y[which, batch].flatten(), reduction="sum") / batch.shape[1]
            with torch.no_grad():
                torch._foreach_add_(parameters, torch.autograd.grad(loss, parameters), alpha=-lr)
        if not loss.isfinite():
            raise LmcError(f"lr={lr}: the loss diverged in epoch {epoch + 1}; must be lower")
        snapshots.append(_copied(layers))
    return snapshots


def perceptron_outputs(layers: Sequence[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """The outputs (N, n, d_L) of a stack for inputs (N, n, d_0).

    Example:
        >>> one, minus_two = ((torch.full((1, 1, 1), w), torch.zeros(1, 1)) for w in (1.0, -2.0))
        >>> perceptron_outputs([one, minus_two], torch.tensor([[[3.0], [-3.0]]])).flatten().tolist()
        [-6.0, 0.0]
    """
    for k, (weight, bias) in enumerate(layers):
        x = torch.baddbmm(bias[:, None], x.relu() if k else x, weight.mT)
    return x


def _copied(layers: Sequence[tuple[Tensor, Tensor]]) -> Stack:
    return [(weight.detach().clone(), bias.detach().clone()) for weight, bias in layers]
