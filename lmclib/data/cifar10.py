"""CIFAR-10 as torchvision downloads it."""

import torch

from lmclib.data.dataset import DataCard, Dataset, Split
from lmclib.errors import LmcError
from lmclib.root import from_root

FOLDER = "data/cifar10"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHIFT, FLIP = 4, True
# as far as it is known before it is downloaded: without pixels there is no fingerprint
UNSEEN = DataCard(
    label="CIFAR-10",
    classes=CLASSES,
    shape=(3, 32, 32),
    n_train=50_000,
    n_test=10_000,
    fingerprint="not loaded yet",
    shift=SHIFT,
    flip=FLIP,
)


def cifar10() -> Dataset:
    """CIFAR-10 (Krizhevsky 2009), downloaded on first use and checked by digest.

    Raises:
        LmcError: it is not here and cannot be downloaded.
    """
    train, test = (_split(part) for part in (True, False))
    return Dataset("CIFAR-10", CLASSES, train, test, shift=SHIFT, flip=FLIP)


def _split(train: bool) -> Split:
    from torchvision.datasets import CIFAR10

    folder = from_root(FOLDER)
    try:
        raw = CIFAR10(folder, train=train, download=True)  # checks what it has and what it gets by digest
    except (OSError, RuntimeError) as error:
        raise LmcError(
            f"data='cifar10': could not be downloaded ({error}); connect, or unpack its archive in {folder}"
        ) from None
    return Split(torch.from_numpy(raw.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(raw.targets))
