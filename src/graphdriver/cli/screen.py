"""What commands show: tables for people, JSON for programs, progress of long work.

On a terminal, rich shows colours, measures characters and draws progress. Without it, and into a file
or a pipe, the same lines are printed plainly.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from graphdriver.cli.table import (
    GAP,
    Column,
    Tone,
    Toned,
    cut,
    folded,
    lay_out,
    tone_of,
    toned_printable,
)

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Column", "Tone", "Toned"]

T = TypeVar("T")

_FOLDS: Final = 3
"""How many lines the value of a pair takes at most."""
_PATIENCE: Final = 2.0
"""After how many seconds of work its progress is shown."""
_PAUSE: Final = 0.1
"""How long the progress stays as it is at least, in seconds."""

_OWN_SCREEN: Final = "\x1b[?1049h\x1b[?25l"
"""Switches to another screen, without a cursor; `_USUAL_SCREEN` switches back (xterm, ctlseqs)."""
_USUAL_SCREEN: Final = "\x1b[?25h\x1b[?1049l"
_TO_START: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
_REST_OF_SCREEN: Final = "\x1b[K\x1b[J"
"""Erases what is left of an earlier page, to the end of the screen."""


# --- lines ----------------------------------------------------------------------------------------


class Page:
    """Lines that are printed together; each line is a list of texts with tones.

    Args:
        width: how many characters a line may have; None: any number.
        height: how many lines the screen shows; None: any number.
    """

    def __init__(self, width: int | None = None, height: int | None = None) -> None:
        self.width = width
        self.height = height
        self.lines: list[list[str]] = []
        self._measure = _measure_of(width)

    def line(self, *texts: str) -> None:
        """Add a line of texts that stand side by side; without any, an empty one.

        Texts that do not fit stand below each other, in as many lines as they need.
        """
        shown = [toned_printable(text) for text in texts]
        if self.width is None or sum(map(self._measure, shown)) <= self.width:
            self.lines.append(shown)
            return
        for text in shown:
            if text.strip():
                folds = folded(text, self.width, " ", measure=self._measure)
                self.lines += [[line] for line in folds]

    def pairs(self, pairs: Sequence[tuple[str, str]], *, whole: bool = False) -> None:
        """Add each name and its value, the values below each other; a list takes up to three lines.

        Args:
            pairs: the names and values.
            whole: leave the breaking of values to the terminal, so that paths can be copied.
        """
        width = max((self._measure(toned_printable(name)) for name, _ in pairs), default=0)
        room = None if self.width is None else max(self.width - width - len(GAP), 1)
        for name, value in pairs:
            label = toned_printable(name)
            for text in self._value(toned_printable(value), room, whole):
                blanks = " " * (width - self._measure(label))
                self.lines.append([Toned(label + blanks, Tone.QUIET), GAP, text])
                label = ""

    def _value(self, text: str, room: int | None, whole: bool) -> Iterator[str]:
        if whole and room is not None:
            yield cut(text, _FOLDS * room, self._measure)
        else:
            yield from folded(text, room, ", ", _FOLDS, self._measure)

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Add a table."""
        for cells in lay_out(columns, rows, self.width, self._measure):
            line = []
            for cell in cells:
                line += [cell, GAP]
            self.lines.append(line[:-1])

    def fitting(self, rows: Sequence[T], spare: int) -> Sequence[T]:
        """Return the rows of a table that still fit the screen; one at least.

        Args:
            rows: all rows.
            spare: how many more lines are needed. If some rows do not fit, there is one for a note.
        """
        if self.height is None or len(rows) <= (room := self.height - len(self.lines) - spare):
            return rows
        return rows[: max(room - 1, 1)]

    def text(self) -> str:
        """Return the lines as plain text."""
        return "".join(f"{''.join(line).rstrip()}\n" for line in self.lines)


def page() -> Page:
    """Return a page that fits the terminal; its lines are not cut if the output is none."""
    if not sys.stdout.isatty():
        return Page()
    columns, lines = shutil.get_terminal_size()
    return Page(columns, lines)


def show(shown: Page) -> None:
    """Print a page."""
    console = _console()
    if console is None:
        _survive_narrow_encodings()
        print(shown.text(), end="")
    else:
        _print_toned(console, shown)


def print_json(value: object) -> None:
    """Print a value as JSON, for programs."""
    print(json.dumps(value, indent=2))


def has_unicode() -> bool:
    """Tell whether lines and bars can be drawn with more than ASCII."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _survive_narrow_encodings() -> None:
    # A name may have characters that the terminal's encoding does not have.
    if not has_unicode():
        with contextlib.suppress(AttributeError):
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


# --- rich -----------------------------------------------------------------------------------------


def _console() -> Console | None:
    """Return rich's console; None if the output is no terminal, or rich is not installed."""
    if not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    _survive_narrow_encodings()
    return Console(highlight=False, markup=False, emoji=False)


def _measure_of(width: int | None) -> Callable[[str], int]:
    if width is None:
        return len
    try:
        from rich.cells import cell_len
    except ImportError:
        return len
    return cell_len


def _print_toned(console: Console, shown: Page) -> None:
    from rich.segment import Segment, Segments
    from rich.style import Style

    styles = {tone: Style.parse(tone.value) if tone.value else None for tone in Tone}
    segments = []
    for line in shown.lines:
        segments += [Segment(text, styles[tone_of(text)]) for text in line]
        segments.append(Segment.line())
    console.print(Segments(segments), end="", soft_wrap=True)


@contextlib.contextmanager
def refreshed() -> Iterator[Callable[[Page], None]]:
    """Give the whole terminal to pages that replace each other, for the length of a ``with`` block.

    Yields:
        A function that shows a page.
    """
    _survive_narrow_encodings()
    console = _console()

    def show_page(shown: Page) -> None:
        if console is None:
            text = shown.text()
        else:
            with console.capture() as captured:
                _print_toned(console, shown)
            text = captured.get()
        lines = text.splitlines()[: shown.height]
        sys.stdout.write(_TO_START + f"{_REST_OF_LINE}\r\n".join(lines) + _REST_OF_SCREEN)
        sys.stdout.flush()

    sys.stdout.write(_OWN_SCREEN)
    try:
        yield show_page
    finally:
        sys.stdout.write(_USUAL_SCREEN)
        sys.stdout.flush()


# --- progress -------------------------------------------------------------------------------------


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of work on stderr, if it is a terminal and the work takes over two seconds.

    Args:
        what: what is done: ``reading layers``.
        total: how many steps there are.

    Yields:
        A function that is called with the number of steps that were done since the last call.
    """
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    with contextlib.ExitStack() as held:
        begun = time.monotonic()
        done = 0
        shown_at = begun + _PATIENCE - _PAUSE
        show_done: Callable[[int], None] | None = None

        def advance(steps: int) -> None:
            nonlocal done, shown_at, show_done
            done += steps
            now = time.monotonic()
            if now < shown_at + _PAUSE:
                return
            shown_at = now
            if show_done is None:
                show_done = held.enter_context(_bar(what, total))
            show_done(done)

        yield advance


@contextlib.contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Draw a bar on stderr, which is gone at the end of a ``with`` block."""
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        with _plain_bar(what, total) as show_done:
            yield show_done
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextlib.contextmanager
def _plain_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    def show_done(done: int) -> None:
        print(f"\r{what}: {done:,} of {total:,}", end="", file=sys.stderr, flush=True)

    try:
        yield show_done
    finally:
        print(f"\r{_REST_OF_LINE}", end="", file=sys.stderr, flush=True)
