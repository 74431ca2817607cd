"""The order in which a run sees its data: it follows from the run's own stream of randomness and the epoch alone."""

import numpy as np
import torch
from torch import Tensor


def generator(*stream: int) -> torch.Generator:
    """A generator for one source of randomness, named by whole numbers."""
    seed = np.random.SeedSequence(stream).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed))


def epoch_order(stream: tuple[int, ...], epoch: int, n: int, shift: int, flip: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The order (n,), the shifts (n, 2) and the flips (n,) of one epoch, each from a generator of its own."""
    order = torch.randperm(n, generator=generator(*stream, epoch, 0))
    shifts = torch.randint(0, 2 * shift + 1, (n, 2), generator=generator(*stream, epoch, 1))
    flips = torch.rand(n, generator=generator(*stream, epoch, 2)) < (0.5 if flip else 0)
    return order, shifts, flips
