"""Data sets in memory: images as uint8 tensors, decoded once, normalised and augmented in batches where they are used."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional as F

from lmclib.errors import LmcError


@dataclass(frozen=True)
class Split:
    """Examples and targets of one split: images (N, C, H, W) uint8 and labels (N,) int64, or tokens (N, T) and the next ones."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


class DataCard(BaseModel):
    """What addresses, models and captions need to know of a data set: enough to look results up without the data.

    It travels with results, so it holds no path: a folder goes by its own name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    n_train: int
    n_test: int
    fingerprint: str
    shift: int
    flip: bool
    randomly: str = ""

    @property
    def content(self) -> dict[str, object]:
        """What decides the content of a run on this data: pixels, labels and augmentation."""
        more = {"randomly": self.randomly} if self.randomly else {}
        return {"pixels": self.fingerprint, "shift": self.shift, "flip": self.flip, **more}


@dataclass(frozen=True)
class Dataset:
    r"""A labelled image data set with a fixed train/test split, $x \in \{0, \dots, 255\}^{C \times H \times W}$.

    Attributes:
        label: how it is called in captions; a folder is called by its own name.
        classes: the names of the classes, in the order of their labels.
        train: the training split.
        test: the test split.
        shift: the largest random shift in pixels that augmentation applies.
        flip: whether augmentation flips left and right.
        known_fingerprint: its fingerprint where it is known, so that the pixels need not be read for it.
    """

    label: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    shift: int = 0
    flip: bool = False
    known_fingerprint: str | None = None

    randomly = ""  # what else augmentation does, in a word

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of one image."""
        return tuple(self.train.x.shape[1:])

    @cached_property
    def card(self) -> DataCard:
        """The data set without its data."""
        return DataCard(
            label=self.label,
            classes=self.classes,
            shape=self.shape,
            n_train=len(self.train),
            n_test=len(self.test),
            fingerprint=self.fingerprint,
            shift=self.shift,
            flip=self.flip,
            randomly=self.randomly,
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the pixels and labels of both splits: two data sets with one fingerprint are the same data."""
        return self.known_fingerprint or fingerprint(self.train, self.test)

    def normalise(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Scale pixels to $(x - \mu_c) / \sigma_c$ with the training set's mean and deviation of each channel.

        Args:
            x: (..., C, H, W) uint8.
            dtype: the floating type that comes back.
        """
        mean, std = self._moments()
        return (x.to(dtype) - mean.to(x.device, dtype)) / std.to(x.device, dtype)

    def pair(
        self, split: str, dtype: torch.dtype = torch.float32, examples: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The normalised examples and the targets of split `train` or `test`, as a `LayerCube` takes them: all, or some evenly spaced."""
        if split not in ("train", "test"):
            raise LmcError(f"split={split!r}: must be 'train' or 'test'")
        if examples is not None and examples < 1:
            raise LmcError(f"examples={examples}: must be at least 1")
        x, y = getattr(self, split).x, getattr(self, split).y
        if examples is not None and examples < len(y):
            chosen = torch.linspace(0, len(y) - 1, examples).round().long().to(y.device)
            x, y = x[chosen], y[chosen]
        return self.normalise(x, dtype), y

    def draw(self, source: Callable[[int], torch.Generator], chosen: Tensor | None = None) -> tuple[Tensor, ...]:
        """What training sees in one epoch, one entry an example: which (n,), its shift (n, 2) and whether it is flipped (n,).

        Args:
            source: gives a generator for each kind of randomness, by number.
            chosen: the numbers of the examples that there are to see; all by default.
        """
        order = shuffled(len(self.train), source(0), chosen)
        n = len(order)
        shifts = torch.randint(0, 2 * self.shift + 1, (n, 2), generator=source(1))
        flips = torch.rand(n, generator=source(2)) < (0.5 if self.flip else 0)
        return order, shifts, flips

    def drawn(
        self, index: Tensor, shifts: Tensor, flips: Tensor, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Training examples as `draw` chose them, augmented and normalised: (B, K, C, H, W) and (B, K) for entries of shape (B, K, ...)."""
        return self.normalise(self.moved(index, shifts, flips), dtype), self.train.y[index]

    def moved(self, index: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
        """Training images, shifted within a border of black and flipped: (..., C, H, W) uint8."""
        if not self.shift and not self.flip:
            return self.train.x[index]
        channels, height, width = self.shape
        device = index.device
        rows = shifts[..., 0, None] + torch.arange(height, device=device)  # (..., H)
        columns = torch.arange(width, device=device).expand(*index.shape, width)
        columns = shifts[..., 1, None] + torch.where(flips[..., None], width - 1 - columns, columns)
        c = torch.arange(channels, device=device)[:, None, None]
        picked = index[..., None, None, None]
        return self._padded[picked, c, rows[..., None, :, None], columns[..., None, None, :]]

    @cached_property
    def _padded(self) -> Tensor:
        return F.pad(self.train.x, (self.shift,) * 4)

    @lru_cache(maxsize=4)  # noqa: B019 - data sets are few and live as long as the process
    def to(self, device: torch.device | str) -> "Dataset":
        """The same data set on `device`."""
        if torch.device(device) == self.train.x.device:
            return self
        return replace(
            self,
            train=Split(self.train.x.to(device), self.train.y.to(device)),
            test=Split(self.test.x.to(device), self.test.y.to(device)),
        )

    @lru_cache(maxsize=8)  # noqa: B019 - as above
    def _moments(self) -> tuple[Tensor, Tensor]:
        std, mean = torch.std_mean(self.train.x.double(), dim=(0, 2, 3), keepdim=True)
        return mean[0], std[0].clamp_min(1e-8)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


def shuffled(n: int, generator: torch.Generator, chosen: Tensor | None = None) -> Tensor:
    """The numbers below n, or those that are chosen, in a random order.

    Example:
        >>> sorted(shuffled(9, torch.Generator().manual_seed(0), torch.tensor([4, 7])).tolist())
        [4, 7]
    """
    if chosen is None:
        return torch.randperm(n, generator=generator)
    chosen = chosen.cpu()
    return chosen[torch.randperm(len(chosen), generator=generator)]


def fingerprint(train: Split, test: Split) -> str:
    """SHA-256 over the pixels and labels of both splits, with their shapes and types."""
    digest = hashlib.sha256()
    for part in (train.x, train.y, test.x, test.y):
        digest.update(repr((tuple(part.shape), str(part.dtype))).encode())
        digest.update(part.cpu().contiguous().numpy())
    return digest.hexdigest()
