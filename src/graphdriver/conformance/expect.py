"""What a case says when a plugin is not as it should be: what was looked at, seen and expected."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from graphdriver.errors import UnreachableError


class Mismatch(Exception):  # noqa: N818 - it is what was found, not what went wrong
    """A plugin is not as it should be.

    Args:
        what: what was looked at.
        saw: what it was.
        expected: what it should have been.
    """

    def __init__(self, what: str, saw: object, expected: object) -> None:
        self.what = what
        self.saw = saw if isinstance(saw, str) else repr(saw)
        self.expected = expected if isinstance(expected, str) else repr(expected)
        super().__init__(f"{what}: saw {self.saw}, expected {self.expected}")


def expect(what: str, saw: object, expected: object) -> None:
    """Compare.

    Raises:
        Mismatch: they differ.
    """
    if saw != expected:
        raise Mismatch(what, saw, expected)


def expect_tree(what: str, saw: Mapping[bytes, object], expected: Mapping[bytes, object]) -> None:
    """Compare two records of trees (`graphdriver.conformance.tree.record`), and name what differs.

    Raises:
        Mismatch: they differ; it holds the first entry that does, and how many do.
    """
    paths = sorted(
        path for path in saw.keys() | expected.keys() if saw.get(path) != expected.get(path)
    )
    if paths:
        first = paths[0]
        others = f", and {len(paths) - 1} others" if len(paths) > 1 else ""
        raise Mismatch(
            f"{what}, at {first!r}{others}",
            saw.get(first, "nothing"),
            expected.get(first, "nothing"),
        )


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
