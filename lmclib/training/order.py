"""The order in which a run sees its data: it follows from the run's own stream of randomness and the epoch alone."""

import numpy as np
import torch
from torch import Tensor

from lmclib.data.dataset import Dataset


def generator(*stream: int) -> torch.Generator:
    """A generator for one source of randomness, named by whole numbers."""
    seed = np.random.SeedSequence(stream).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed))


def epoch_order(stream: tuple[int, ...], epoch: int, data: Dataset, chosen: Tensor | None = None) -> tuple[Tensor, ...]:
    """What a run sees in one epoch, in order, as the data draw it: each part from a generator of its own; of some examples, or of all."""
    return data.draw(lambda part: generator(*stream, epoch, part), chosen)
