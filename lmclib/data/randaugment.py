"""RandAugment: random transformations of every training image, drawn anew in every epoch."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from lmclib.data.dataset import Dataset

SUFFIX = "+randaugment"
# images of an epoch that share a draw, as one call for many takes a tenth of the time; see `RandAugmented`
ALIKE = 8


@dataclass(frozen=True, eq=False)
class RandAugmented(Dataset):
    """Images that are shifted, flipped and then transformed by torchvision's `RandAugment` (Cubuk et al. 2020) in training.

    A draw of transformations is for eight images that are far apart in an epoch's random order: with 8 N images or more, no two
    of N that follow each other share one, so those of a batch are as independent as with a draw for each.
    """

    randomly = "RandAugment, two transformations of magnitude 9"

    def draw(self, source: Callable[[int], torch.Generator], chosen: Tensor | None = None) -> tuple[Tensor, ...]:
        """One epoch's images themselves, (n, C, H, W) uint8, and their labels (n,): its transformations take no random generator."""
        from torchvision.transforms import RandAugment

        index, shifts, flips = super().draw(source, chosen)
        device = self.train.x.device
        x = self.moved(index.to(device), shifts.to(device), flips.to(device))
        transform, seed = RandAugment(), int(torch.randint(2**62, (), generator=source(3)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            groups = -(-len(x) // ALIKE)
            for group in range(groups):
                x[group::groups] = transform(x[group::groups])
        return x, self.train.y[index.to(device)]

    def drawn(self, x: Tensor, y: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """What `draw` gave, normalised."""
        return self.normalise(x, dtype), y

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


def randaugmented(data: Dataset) -> RandAugmented:
    """The same images, transformed at random in training."""
    given = {field.name: getattr(data, field.name) for field in fields(data)}
    return RandAugmented(**given | {"label": f"{data.label} with RandAugment"})
