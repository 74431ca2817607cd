"""Committed results: tables that travel with the book, with their provenance, found by what they answer."""

from pathlib import Path

from lmclib.files import read_json
from lmclib.root import RESULTS, from_root
from lmclib.store.tables import Answer, Question

CARDS = "data.json"


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

    def cards(self) -> dict[str, dict]:
        """What is known of the data sets that results were made with, by their labels."""
        return read_json(self.root / CARDS)
