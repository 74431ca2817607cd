"""Committed results: tables that travel with the book, with their provenance, found by what they answer."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from lmclib.files import read_addressed, read_json
from lmclib.root import RESULTS, from_root
from lmclib.store.address import address
from lmclib.store.tables import Answer, Question

CARDS = "data.json"
REPRODUCED = "reproduced.json"  # what came of measuring tables of other code again, by their names


def committed_results() -> Path:
    """The folder of the results that are committed."""
    return from_root(RESULTS)


class Results:
    """The folder of committed results, which is only read here.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path):
        self.root = root

    def find(self, question: Question) -> Answer | None:
        """The answer to a question, whichever code made it."""
        return Answer.within(self.root / question.name)

    def load_state(self, at: str, name: str) -> dict[str, Tensor] | None:
        """The tensors of a checkpoint that is committed; its address holds the code that trained it, so other code finds none."""
        return read_addressed(self.root / at, name, "safetensors", load_file)

    def networks(self) -> dict[str, Path]:
        """The folders of the committed checkpoints, by what each is, whichever code trained it."""
        folders = [path.parent for path in self.root.glob("*/*.safetensors")]
        return {address(read_json(folder / "run.json")): folder for folder in folders}

    def cards(self) -> dict[str, dict]:
        """What is known of the data sets that results were made with, by their labels."""
        return read_json(self.root / CARDS)
