"""What commands print: tables for people, a row a line where no person looks, and plain JSON for programs."""

import json
import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

WIDE = 10_000  # columns where the output is no terminal, so that no line is broken
NUMBERS = ("hours", "size", "tables")  # columns that are numbers


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, if it has rows.

    Args:
        header: the names of its columns; all empty for a table without a header.
        rows: what is in them: text as it is, anything else as JSON.
    """
    if not rows:
        return
    table = Table(box=box.SIMPLE, show_header=any(header))
    for name in header:
        table.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=name in (*NUMBERS, "address"))
    for row in rows:
        table.add_row(*(Text(cell if isinstance(cell, str) else as_json(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def print_json(content: object) -> None:
    """Print plain values as JSON."""
    print(as_json(content, indent=1))


def as_json(content: object, indent: int | None = None) -> str:
    """Plain values as JSON, in the letters that they are written in."""
    return json.dumps(content, indent=indent, ensure_ascii=False)


def size_text(size: int) -> str:
    """A number of bytes in a unit that suits it.

    Example:
        >>> size_text(1_234_567)
        '1.2 MB'
    """
    return decimal(size)


def seeds_text(seeds: Iterable[int]) -> str:
    """Seeds in order, each once.

    Example:
        >>> seeds_text([2, 0, 2])
        '0, 2'
    """
    return ", ".join(map(str, sorted(set(seeds))))
