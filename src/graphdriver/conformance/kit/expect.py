"""Expectations of a case, and the error that names what was checked, seen and expected."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

from graphdriver.conformance.kit.tree import Facts
from graphdriver.docker.answers import shown
from graphdriver.errors import UnreachableError

_MOST_SHOWN = 80


class Mismatch(Exception):  # noqa: N818 - a finding, not a failure
    """A plugin breaks a rule.

    Args:
        what: the subject of the check.
        saw: its value.
        expected: the value it should have.
    """

    def __init__(self, what: str, saw: object, expected: object) -> None:
        self.what = shown(what)
        self.saw = shown(saw)
        self.expected = shown(expected)
        super().__init__(f"{what}: saw {self.saw}, expected {self.expected}")


def expect(what: str, saw: object, expected: object) -> None:
    """Compare a value with the expected one.

    Raises:
        Mismatch: they differ.
    """
    if saw != expected:
        raise Mismatch(what, saw, expected)


def expect_tree(what: str, saw: Mapping[bytes, Facts], expected: Mapping[bytes, Facts]) -> None:
    """Compare two records of trees (`graphdriver.conformance.kit.tree.record`), and name differences.

    Times less than two microseconds apart are the same: some languages cannot set them more exactly,
    and no daemon relies on more.

    Raises:
        Mismatch: they differ; it holds the differences of the first entry, and the number of others.
    """
    paths = sorted(
        path
        for path in saw.keys() | expected.keys()
        if _rounded(saw.get(path), expected.get(path)) != expected.get(path)
    )
    if paths:
        first = paths[0]
        other = expected.get(first)
        one = _rounded(saw.get(first), other)
        others = f", and {len(paths) - 1} others" if len(paths) > 1 else ""
        raise Mismatch(
            f"{what}, at {first!r}{others}", _differing(one, but=other), _differing(other, but=one)
        )


def expect_soon(what: str, look: Callable[[], str], expected: str, patience: float) -> None:
    """Wait until a check finds nothing wrong.

    Args:
        what: the subject of the check.
        look: returns what is wrong, or "".
        expected: the value it should have.
        patience: how long to wait, in seconds.

    Raises:
        Mismatch: it is still wrong after that time.
    """
    deadline = time.monotonic() + patience
    while wrong := look():
        if time.monotonic() > deadline:
            raise Mismatch(what, wrong, f"{expected}, within {patience:.0f} s")
        time.sleep(0.05)


def _rounded(facts: Facts | None, like: Facts | None) -> Facts | None:
    """Return facts with the time of others, if both times are the same for `expect_tree`."""
    if facts and like and abs(facts.mtime_ns - like.mtime_ns) < 2000:
        return facts._replace(mtime_ns=like.mtime_ns)
    return facts


def _differing(facts: Facts | None, *, but: Facts | None) -> str:
    """Return the attributes of one entry that differ from another's."""
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


class NotOffered(Exception):  # noqa: N818 - not an error
    """A plugin reports that it does not support the subject of a case, which is allowed."""


class Rejection:
    """The result of a call: whether it was rejected, and the text that a daemon's user would read."""

    was = False
    text = ""


@contextlib.contextmanager
def either_way() -> Iterator[Rejection]:
    """Allow a call to fail or to succeed; the yielded object tells afterwards which it was.

    A plugin that does not respond has not rejected the call: that error is passed on.
    """
    rejection = Rejection()
    try:
        yield rejection
    except (UnreachableError, Mismatch):
        raise
    except Exception as error:  # a driver may raise any type
        rejection.was = True
        rejection.text = str(error)


@contextlib.contextmanager
def rejected(what: str, *words: str) -> Iterator[Rejection]:
    """Expect that a call fails, with an error that contains some words.

    Args:
        what: the call, and why it must be rejected.
        words: words that the error's text must contain, in any letter case.

    Raises:
        Mismatch: the call succeeded, or the error does not contain them.
    """
    with either_way() as rejection:
        yield rejection
    if not rejection.was:
        raise Mismatch(what, "success", "an error")
    for word in words:
        if word.lower() not in rejection.text.lower():
            raise Mismatch(
                f"{what}: the error's text", rejection.text, f"one that contains {word!r}"
            )
