"""Text as characters: cut into pieces of one length, each to be continued by one character at every place."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lmclib.data.dataset import Dataset, Split, shuffled
from lmclib.errors import LmcError
from lmclib.root import from_root

CONTEXT = 32  # characters that a network sees at once, unless the name says otherwise
TOPICS = "topics"  # the text that comes with Python
FILE = "text:"
HELD_OUT = 10  # the last tenth of a text is for testing


@dataclass(frozen=True, eq=False)
class Text(Dataset):
    r"""A text as a data set: `x` are N pieces of T characters, `y` the same moved on by one, both by number.

    `classes` are the characters. In training the pieces begin elsewhere in every epoch: each is moved on by less than its length.
    """

    def normalise(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Characters by number, as an embedding takes them; `dtype` is for images."""
        return x.long()

    def draw(self, source: Callable[[int], torch.Generator], chosen: Tensor | None = None) -> tuple[Tensor, ...]:
        """What training sees in one epoch: which piece (n,), and by how much it is moved on (n,)."""
        order = shuffled(len(self.train), source(0), chosen)
        return order, torch.randint(0, self.train.x.shape[1], (len(order),), generator=source(1))

    def drawn(self, index: Tensor, moved: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Training pieces as `draw` chose them: (B, K, T) and (B, K, T) for entries of shape (B, K)."""
        length = self.train.x.shape[1]
        start = (index * length + moved).clamp_max(len(self._stream) - length - 1)
        seen = self._stream[start[..., None] + torch.arange(length + 1, device=start.device)]
        return seen[..., :-1], seen[..., 1:]

    @cached_property
    def _stream(self) -> Tensor:
        """All of the training text, without a break."""
        return torch.cat([self.train.x.flatten(), self.train.y.flatten()[-1:]]).long()

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


def text(name: str) -> Text:
    """The text that a name stands for: `topics`, Python's own help pages, or `text:PATH`, a UTF-8 file; `@N` behind either sets the context.

    The last tenth is for testing. Classes are the characters of the whole text.

    Raises:
        LmcError: a file that cannot be read or is no text, one that is too short, a context that is no number.
    """
    asked, context = _context(name)
    content = _topics() if asked == TOPICS else _file(name, asked)
    letters = sorted(set(content))
    number = {letter: i for i, letter in enumerate(letters)}
    stream = torch.tensor([number[letter] for letter in content], dtype=torch.int64)
    cut = len(stream) - len(stream) // HELD_OUT
    if len(stream) // HELD_OUT <= context:
        raise LmcError(
            f"data={name!r}: has {len(content)} characters; must have more than {HELD_OUT * (context + 1) - 1} for a context of {context}"
        )
    train, test = (_pieces(part, context) for part in (stream[:cut], stream[cut:]))
    return Text(text_label(name), tuple(letters), train, test)


def text_label(name: str) -> str:
    """How a text is called in captions: a file by its own name, without its path.

    Example:
        >>> text_label("text:/somewhere/of/mine/Letters.txt@64")
        'Letters.txt, 64 characters at once'
    """
    asked, context = _context(name)
    called = _topics_label() if asked == TOPICS else Path(asked.removeprefix(FILE)).name
    return f"{called}, {context} characters at once"


def is_text(name: str) -> bool:
    """Whether a name stands for a text."""
    return name.startswith(FILE) or name.partition("@")[0] == TOPICS


def is_text_here(name: str) -> bool:
    """Whether its file is there; Python's own always is."""
    asked, _ = _context(name)
    return asked == TOPICS or from_root(asked.removeprefix(FILE)).is_file()


def _context(name: str) -> tuple[str, int]:
    """A name without the context at its end, and the context."""
    asked, at, number = name.rpartition("@")
    if not at or "/" in number:
        return name, CONTEXT
    if not number.isdecimal() or not int(number):
        raise LmcError(f"data={name!r}: the context after @ must be a whole number of characters, at least 1")
    return asked, int(number)


def _topics_label() -> str:
    from platform import python_version_tuple

    major, minor, _ = python_version_tuple()
    return f"Python {major}.{minor} help topics"


def _topics() -> str:
    from pydoc_data.topics import topics

    return "\n".join(f"{name}\n{topics[name]}" for name in sorted(topics))


def _file(name: str, asked: str) -> str:
    path = from_root(asked.removeprefix(FILE))
    try:
        content = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise LmcError(f"data={name!r}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise LmcError(
            f"data={name!r}: is not UTF-8 (byte {error.start} of {path.name}); save it as UTF-8 text"
        ) from None
    if "\0" in content:
        raise LmcError(f"data={name!r}: is no text, as it holds zero bytes")
    return content


def _pieces(stream: Tensor, context: int) -> Split:
    n = (len(stream) - 1) // context
    return Split(*(stream[start : start + n * context].view(n, context) for start in (0, 1)))
