"""The layout of tables: widths of columns, and cells that are cut to fit.

Cells may hold what images and containers are called. A control character in such a name would be obeyed
by the terminal, so it is shown as an escape (`toned_printable`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Self

from graphdriver.printable import printable

GAP: Final = "  "
_CUT: Final = "…"
_LEAST: Final = 8
"""How narrow a column is made at most, in characters."""


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


class Tone(enum.Enum):
    """How a text is to be read; terminals show it by colour."""

    PLAIN = ""
    HEADING = "bold"
    STRONG = "bold cyan"
    GOOD = "green"
    WARNING = "yellow"
    BAD = "bold red"
    QUIET = "dim"


class Toned(str):
    """A text with a tone; a plain string has `Tone.PLAIN`."""

    __slots__ = ("tone",)
    tone: Tone

    def __new__(cls, text: str, tone: Tone) -> Self:
        """Make a text with a tone."""
        made = super().__new__(cls, text)
        made.tone = tone
        return made


def tone_of(text: str) -> Tone:
    """Return the tone of a text."""
    return text.tone if isinstance(text, Toned) else Tone.PLAIN


def toned_printable(text: str) -> str:
    """Return a text as `graphdriver.printable.printable` does, in its tone."""
    return text if text.isprintable() else Toned(printable(text), tone_of(text))


def lay_out(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    width: int | None = None,
    measure: Callable[[str], int] = len,
) -> Iterator[list[str]]:
    """Yield the lines of a table, its heading first: the cells of each, padded and with their tones.

    Args:
        columns: the columns.
        rows: a cell for each column.
        width: how many characters a line may have; None: any number.
        measure: returns how many characters of the terminal a text takes.
    """
    lines: list[list[str]] = [
        [Toned(column.title, Tone.HEADING) for column in columns],
        *([toned_printable(cell) for cell in row] for row in rows),
    ]
    widths = [max(measure(line[at]) for line in lines) for at in range(len(columns))]
    if width is not None:
        _shrink(widths, columns, width - len(GAP) * (len(columns) - 1))
    for line in lines:
        yield [
            _padded(cell, widths[at], columns[at], measure, is_last=at == len(columns) - 1)
            for at, cell in enumerate(line)
        ]


def _shrink(widths: list[int], columns: Sequence[Column], width: int) -> None:
    """Make the columns that may shrink narrower, the widest first, until all fit if they can."""
    able = [at for at, column in enumerate(columns) if column.shrinks]
    excess = sum(widths) - width
    while excess > 0 and able:
        able.sort(key=lambda at: widths[at])
        widest = widths[able[-1]]
        # All of the widest ones are lowered to the next one's width together.
        level = [at for at in able if widths[at] == widest]
        below = max((widths[at] for at in able if widths[at] < widest), default=0)
        floor = max(below, _LEAST)
        if widest <= floor:
            return
        step = min(widest - floor, -(-excess // len(level)))
        for at in level:
            taken = min(step, excess)
            widths[at] -= taken
            excess -= taken


def _padded(
    cell: str, width: int, column: Column, measure: Callable[[str], int], *, is_last: bool
) -> str:
    shown = cut(cell, width, measure)
    blanks = " " * (width - measure(shown))
    if column.right:
        return Toned(blanks + shown, tone_of(cell))
    return Toned(shown if is_last else shown + blanks, tone_of(cell))


def cut(text: str, width: int, measure: Callable[[str], int] = len) -> str:
    """Return a text in its tone that is not wider than ``width``.

    The middle of an ID or a path is left out, and the end of a list.
    """
    if measure(text) <= width:
        return text
    kept = width - measure(_CUT)
    if ", " in text:
        return Toned(_start(text, kept, measure) + _CUT, tone_of(text))
    head = _start(text, -(-kept // 2), measure)
    tail = _start(text[::-1], kept - measure(head), measure)[::-1]
    return Toned(head + _CUT + tail, tone_of(text))


def folded(
    text: str,
    width: int | None,
    between: str,
    most: int | None = None,
    measure: Callable[[str], int] = len,
) -> Iterator[str]:
    """Yield the lines of a text in its tone, broken at some places.

    Args:
        text: the text.
        width: how many characters a line may have; None: any number.
        between: stands where a line may be broken, and may end in a blank: ``", "``.
        most: how many lines there may be; then a piece that is too wide is cut. None: any number, and
            the terminal breaks such a piece, so that it can be copied.
        measure: returns how many characters of the terminal a text takes.
    """
    if width is None:
        yield text
        return
    lines = [""]
    mark = between.rstrip()
    for piece in text.split(between):
        longer = f"{lines[-1]}{between}{piece}" if lines[-1] else piece
        if lines[-1] and measure(longer + mark) > width:
            lines[-1] += mark
            lines.append(piece)
        else:
            lines[-1] = longer
    if most is not None:
        if len(lines) > most:
            del lines[most:]
            lines[-1] += " " + _CUT
        lines = [cut(line, width, measure) for line in lines]
    for line in lines:
        yield Toned(line, tone_of(text))


def _start(text: str, width: int, measure: Callable[[str], int]) -> str:
    """Return as much of the start of a text as fits."""
    end, room = 0, width
    for character in text:
        room -= measure(character)
        if room < 0:
            break
        end += 1
    return text[:end]
