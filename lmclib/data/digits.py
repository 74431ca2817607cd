"""The embedded data set: 1,797 handwritten digits of 8×8 pixels, shipped beside this file with their licence."""

from pathlib import Path

import numpy as np
import torch

from lmclib.data.dataset import Dataset, Split

FILE = Path(__file__).with_name("digits.npz")


def digits() -> Dataset:
    """The digits of Alpaydin and Kaynak (1998), 17 levels of grey, with a fixed stratified split of 1,437 and 360.

    Source:
        Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (CC BY 4.0), as scikit-learn ships them.
    """
    with np.load(FILE, allow_pickle=False) as file:
        parts = [torch.from_numpy(file[name]) for name in ("train_x", "train_y", "test_x", "test_y")]
    train, test = (Split(x[:, None], y.long()) for x, y in (parts[:2], parts[2:]))
    return Dataset("digits", tuple(str(digit) for digit in range(10)), train, test, shift=1)
