"""What a case says when a plugin is not as it should be: what was looked at, seen and expected."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

from graphdriver.conformance.kit.tree import Facts
from graphdriver.docker.answers import shown
from graphdriver.errors import UnreachableError

_MOST_SHOWN = 80


class Mismatch(Exception):  # noqa: N818 - it is what was found, not what went wrong
    """A plugin is not as it should be.

    Args:
        what: what was looked at.
        saw: what it was.
        expected: what it should have been.
    """

    def __init__(self, what: str, saw: object, expected: object) -> None:
        self.what = shown(what)
        self.saw = shown(saw)
        self.expected = shown(expected)
        super().__init__(f"{what}: saw {self.saw}, expected {self.expected}")


def expect(what: str, saw: object, expected: object) -> None:
    """Compare.

    Raises:
        Mismatch: they differ.
    """
    if saw != expected:
        raise Mismatch(what, saw, expected)


def expect_tree(what: str, saw: Mapping[bytes, Facts], expected: Mapping[bytes, Facts]) -> None:
    """Compare two records of trees (`graphdriver.conformance.kit.tree.record`), and name what differs.

    Times less than two microseconds apart are the same: some languages can set them no better, and no
    daemon relies on more.

    Raises:
        Mismatch: they differ; it holds of the first entry what differs, and how many others do.
    """
    paths = sorted(
        path
        for path in saw.keys() | expected.keys()
        if not _is_same(saw.get(path), expected.get(path))
    )
    if paths:
        first = paths[0]
        one, other = saw.get(first), expected.get(first)
        others = f", and {len(paths) - 1} others" if len(paths) > 1 else ""
        raise Mismatch(
            f"{what}, at {first!r}{others}", _told(one, but=other), _told(other, but=one)
        )


def expect_soon(what: str, look: Callable[[], str], expected: str, patience: float) -> None:
    """Wait until a look finds nothing wrong.

    Args:
        what: what is looked at.
        look: returns what is wrong, or "".
        expected: what it should be.
        patience: how long to wait, in seconds.

    Raises:
        Mismatch: it is still wrong then.
    """
    deadline = time.monotonic() + patience
    while wrong := look():
        if time.monotonic() > deadline:
            raise Mismatch(what, wrong, f"{expected}, within {patience:.0f} s")
        time.sleep(0.05)


def _is_same(one: Facts | None, other: Facts | None) -> bool:
    if one and other and abs(one.mtime_ns - other.mtime_ns) < 2000:
        return one._replace(mtime_ns=other.mtime_ns) == other
    return one == other


def _told(facts: Facts | None, *, but: Facts | None) -> str:
    """Tell what one entry has and another has not."""
    if facts is None:
        return "nothing"
    if but is None:
        return f"something of mode {facts.mode}"
    return ", ".join(
        f"{name} {_short(value)}"
        for name, value in facts._asdict().items()
        if value != getattr(but, name)
    )


def _short(value: object) -> str:
    if isinstance(value, bytes) and len(value) > _MOST_SHOWN:
        return f"{value[:_MOST_SHOWN]!r} and so on, {len(value)} bytes"
    return repr(value)


class NotOffered(Exception):  # noqa: N818 - it is no error
    """A plugin says that it does not do what a case is about, as it may."""


class Refusal:
    """Whether a call was refused, and the text that a daemon's user would read."""

    was = False
    text = ""


@contextlib.contextmanager
def either_way() -> Iterator[Refusal]:
    """Let a call fail or not; what is given says afterwards what it was.

    A plugin that does not answer at all has not refused: that error goes on to the caller.
    """
    refusal = Refusal()
    try:
        yield refusal
    except (UnreachableError, Mismatch):
        raise
    except Exception as error:  # a driver may raise what it likes
        refusal.was = True
        refusal.text = str(error)


@contextlib.contextmanager
def refused(what: str, *words: str) -> Iterator[Refusal]:
    """See that a call fails, with an error that holds some words.

    Args:
        what: the call, and why it is to be refused.
        words: what the error's text must hold, in any letter case.

    Raises:
        Mismatch: the call succeeded, or the error does not say it.
    """
    with either_way() as refusal:
        yield refusal
    if not refusal.was:
        raise Mismatch(what, "success", "an error")
    for word in words:
        if word.lower() not in refusal.text.lower():
            raise Mismatch(f"{what}: the error's text", refusal.text, f"one that holds {word!r}")
