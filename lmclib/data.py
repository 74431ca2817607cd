"""Data sets as uint8 tensors in memory: decoded once, normalised and augmented in batches where they are used."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from lmclib.errors import LmcError

ROOT = Path("data")  # where downloads go; ignored by git


@dataclass(frozen=True)
class Split:
    """Images and labels of one split: `x` is (N, C, H, W) uint8, `y` is (N,) int64."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


class DataCard(BaseModel):
    """What addresses, models and captions need to know of a data set: enough to look results up without the data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    label: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    n_train: int
    n_test: int
    fingerprint: str


CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# data sets that have to be downloaded, as far as they are known before: without pixels there is no fingerprint
UNSEEN = {
    "cifar10": DataCard(
        name="cifar10",
        label="CIFAR-10",
        classes=CIFAR10,
        shape=(3, 32, 32),
        n_train=50_000,
        n_test=10_000,
        fingerprint="not loaded yet",
    )
}


@dataclass(frozen=True)
class Dataset:
    r"""A labelled image data set with a fixed train/test split, $x \in \{0, \dots, 255\}^{C \times H \times W}$.

    Attributes:
        name: how the user asked for it; the part of a run's address that people read.
        label: how it is called in captions; a folder is called by its own name.
        classes: the names of the classes, in the order of their labels.
        train: the training split.
        test: the test split.
        shift: the largest random shift in pixels that augmentation applies.
        flip: whether augmentation flips left and right.
    """

    name: str
    label: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    shift: int = 0
    flip: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return tuple(self.train.x.shape[1:])

    @cached_property
    def card(self) -> DataCard:
        """The data set without its data."""
        return DataCard(
            name=self.name,
            label=self.label,
            classes=self.classes,
            shape=self.shape,
            n_train=len(self.train),
            n_test=len(self.test),
            fingerprint=self.fingerprint,
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the pixels and labels of both splits: two data sets with one fingerprint are the same data."""
        digest = hashlib.sha256()
        for part in (self.train.x, self.train.y, self.test.x, self.test.y):
            digest.update(repr((tuple(part.shape), str(part.dtype))).encode())
            digest.update(part.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def normalise(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Scale pixels to $(x - \mu_c) / \sigma_c$ with the training set's mean and deviation of each channel.

        Args:
            x: (..., C, H, W) uint8.
            dtype: the floating type that comes back.
        """
        mean, std = self._moments()
        return (x.to(dtype) - mean.to(x.device, dtype)) / std.to(x.device, dtype)

    def pair(self, split: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """The normalised images and the labels of split `train` or `test`, as a `LayerCube` takes them."""
        if split not in ("train", "test"):
            raise LmcError(f"split={split!r}: must be 'train' or 'test'")
        chosen = getattr(self, split)
        return self.normalise(chosen.x, dtype), chosen.y

    @lru_cache(maxsize=4)  # noqa: B019 - as above: normalising 50,000 images anew for every pair would cost more than a pass
    def to(self, device: torch.device | str) -> "Dataset":
        """The same data set on `device`."""
        if torch.device(device) == self.train.x.device:
            return self
        return replace(
            self,
            train=Split(self.train.x.to(device), self.train.y.to(device)),
            test=Split(self.test.x.to(device), self.test.y.to(device)),
        )

    @lru_cache(maxsize=8)  # noqa: B019 - data sets are few and live as long as the process
    def _moments(self) -> tuple[Tensor, Tensor]:
        std, mean = torch.std_mean(self.train.x.double(), dim=(0, 2, 3), keepdim=True)
        return mean[0], std[0].clamp_min(1e-8)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


@lru_cache(maxsize=4)
def load_data(name: str) -> Dataset:
    """Load a data set by name.

    `digits`: scikit-learn's 1,797 handwritten digits of 8×8 pixels, with a fixed stratified split of 1,437 and 360.
    `cifar10`: torchvision's CIFAR-10, downloaded on first use. `folder:PATH`: a folder with `train/CLASS/*` and
    `test/CLASS/*` images of one size.

    Args:
        name: `digits`, `cifar10` or `folder:PATH`.

    Raises:
        LmcError: an unknown name, or a folder without classes or with images that cannot be read.

    Example:
        >>> digits = load_data("digits")
        >>> len(digits.train), len(digits.test), digits.shape
        (1437, 360, (1, 8, 8))
    """
    if name == "digits":
        return _digits()
    if name == "cifar10":
        return _cifar10()
    if name.startswith("folder:"):
        return _folder(name)
    raise LmcError(f"data={name!r}: must be 'digits', 'cifar10' or 'folder:PATH'")


def _digits() -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 1, 8, 8).astype(np.uint8)
    parts = train_test_split(x, y.astype(np.int64), test_size=360, stratify=y, random_state=0)
    train_x, test_x, train_y, test_y = map(torch.from_numpy, parts)
    classes = tuple(str(digit) for digit in range(10))
    return Dataset("digits", "digits", classes, Split(train_x, train_y), Split(test_x, test_y), shift=1)


def _cifar10() -> Dataset:
    from torchvision.datasets import CIFAR10

    def split(train: bool) -> Split:
        try:
            raw = CIFAR10(ROOT / "cifar10", train=train, download=True)  # checks what it has and what it gets by digest
        except (OSError, RuntimeError) as error:
            raise LmcError(
                f"data='cifar10': could not be downloaded ({error}); connect, or unpack its archive in {ROOT / 'cifar10'}"
            ) from None
        return Split(torch.from_numpy(raw.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(raw.targets))

    return Dataset("cifar10", "CIFAR-10", CIFAR10, split(True), split(False), shift=4, flip=True)


def _folder(name: str) -> Dataset:
    root = Path(name.removeprefix("folder:")).expanduser()
    (train, classes), (test, test_classes) = (_folder_split(name, root / part) for part in ("train", "test"))
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))[0]
        raise LmcError(f"data={name!r}: train/ and test/ must hold the same classes; {odd!r} is in one of them only")
    if train.x.shape[1:] != test.x.shape[1:]:
        raise LmcError(f"data={name!r}: images of train/ and test/ must have one size")
    return Dataset(name, root.resolve().name, classes, train, test, shift=train.x.shape[-1] // 8, flip=True)


def _folder_split(name: str, root: Path) -> tuple[Split, tuple[str, ...]]:
    from torchvision.datasets import ImageFolder
    from tqdm.auto import tqdm

    try:
        found = ImageFolder(root)
    except (FileNotFoundError, OSError) as error:
        raise LmcError(f"data={name!r}: {root} must hold one folder of images per class ({error})") from None
    images, labels = [], []
    for path, label in tqdm(found.samples, desc=f"decode {root.name}", unit="image", delay=1, leave=False):
        try:
            images.append(np.asarray(found.loader(path)))
        except OSError:
            raise LmcError(f"data={name!r}: {path} cannot be read as an image; remove or replace it") from None
        if images[-1].shape != images[0].shape:
            shapes = f"{images[-1].shape[:2]} where the first is {images[0].shape[:2]}"
            raise LmcError(f"data={name!r}: images must have one size; {path} is {shapes}")
        labels.append(label)
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Split(x, torch.tensor(labels)), tuple(found.classes)
