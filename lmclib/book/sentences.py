"""Numbers in a chapter's text: sentences that are filled in from results, and read the same on the page and in JupyterLab."""

import math
import re

import myst_nb
from IPython.display import Markdown

from lmclib.errors import LmcError

NO_NUMBER = "–"  # where a result is not a number, as a spread over one seed
TEXT = r"(?<![\w}^_])"  # what a brace of LaTeX comes after: a command, another brace, ^ or _
FORGOTTEN = re.compile(TEXT + r"\{[a-z]\w*(:[^{}\\\s]*)?\}(?!`)")  # but a role of MyST, which stays


def glue(**values: object) -> None:
    """Give captions of figures their words: a caption that says ``{glue:text}`name` `` shows the value of that name.

    A caption belongs to a cell's metadata, which no code can change, so it is filled in when the page is rendered. Sentences are said by
    `say`, which needs no page.

    Args:
        values: what the captions of this chapter say, by name.
    """
    for name, value in values.items():
        myst_nb.glue(name, str(value), display=False)


def say(text: str, **values: object) -> Markdown:
    r"""A paragraph in which every `{name}` or `{name:format}` stands for a result.

    Braces of LaTeX stay as they are, and so do roles of MyST.

    Args:
        text: Markdown; a raw string where it has LaTeX.
        values: the results by name; each is used at least once. Where one is not a number it is told as a dash.

    Raises:
        LmcError: a value that the text does not use, or a place in the text for which there is no value.

    Example:
        >>> say(r"At $\tfrac12$ it is {height:.2f} nats, among {n} seeds.", height=1 / 3, n=5).data
        'At $\\tfrac12$ it is 0.33 nats, among 5 seeds.'
    """
    places = re.compile(TEXT + rf"\{{({'|'.join(map(re.escape, values)) or '(?!)'})(?::([^{{}}]*))?\}}")
    if unused := set(values) - {name for name, _ in places.findall(text)}:
        raise LmcError(f"say: the text has no place for {', '.join(sorted(unused))}")
    said = places.sub(lambda place: _told(values[place[1]], place[2] or ""), text)
    if left := FORGOTTEN.search(said):
        raise LmcError(f"say: no value for {left[0]}")
    return Markdown(said)


def _told(value: object, form: str) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return NO_NUMBER
    return format(value, form)
