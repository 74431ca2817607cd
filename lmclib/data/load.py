"""Data sets by name."""

from functools import lru_cache
from pathlib import Path

from lmclib.data.cifar10 import UNSEEN, cifar10
from lmclib.data.dataset import DataCard, Dataset
from lmclib.data.digits import digits
from lmclib.data.folder import folder, folder_root
from lmclib.data.randaugment import SUFFIX, RandAugmented, randaugmented
from lmclib.data.text import is_text, is_text_here, text, text_label
from lmclib.errors import LmcError


@lru_cache(maxsize=4)
def load_data(name: str) -> Dataset:
    """Load a data set by name.

    `digits`: 1,797 handwritten digits of 8×8 pixels that come with the library, with a fixed stratified split of 1,437 and
    360. `cifar10`: torchvision's CIFAR-10, downloaded on first use. `folder:PATH`: a folder with `train/CLASS/*` and
    `test/CLASS/*` images of one size. `topics`: characters of the help pages that come with Python. `text:PATH`: those of a UTF-8 file.
    `+randaugment` behind images transforms them at random in training; `@N` behind text sets how many characters are seen at once.

    Args:
        name: `digits`, `cifar10`, `folder:PATH`, `topics` or `text:PATH`.

    Raises:
        LmcError: an unknown name, a folder without classes or with images that cannot be read, a file that is no text or too short.

    Example:
        >>> data = load_data("digits")
        >>> len(data.train), len(data.test), data.shape
        (1437, 360, (1, 8, 8))
    """
    if name.endswith(SUFFIX) and not is_text(name):
        return randaugmented(load_data(name.removesuffix(SUFFIX)))
    if is_text(name):
        return text(name)
    if name == "digits":
        return digits()
    if name == "cifar10":
        return cifar10()
    if name.startswith("folder:"):
        return folder(name)
    raise LmcError(f"data={name!r}: must be 'digits', 'cifar10', 'folder:PATH', 'topics' or 'text:PATH'")


def data_label(name: str) -> str:
    """How a data set is called in captions and in committed results: a folder by its own name, without its path.

    Example:
        >>> data_label("folder:/somewhere/of/mine/Birds"), data_label("digits")
        ('Birds', 'digits')
    """
    if name.endswith(SUFFIX) and not is_text(name):
        return f"{data_label(name.removesuffix(SUFFIX))} with RandAugment"
    if is_text(name):
        return text_label(name)
    if name.startswith("folder:"):
        return folder_root(name).name
    return UNSEEN.label if name == "cifar10" else name


def known_before(name: str) -> DataCard | None:
    """The card of a data set that has to be downloaded, as far as it is known before; None for all others."""
    if name == f"cifar10{SUFFIX}":
        return UNSEEN.model_copy(update={"label": data_label(name), "randomly": RandAugmented.randomly})
    return UNSEEN if name == "cifar10" else None


def is_here(name: str) -> bool:
    """Whether a data set can be loaded without a download."""
    if is_text(name):
        return is_text_here(name)
    name = name.removesuffix(SUFFIX)
    return name == "digits" or (name.startswith("folder:") and Path(folder_root(name)).is_dir())
