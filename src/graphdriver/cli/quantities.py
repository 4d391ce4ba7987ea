"""Sizes, counts and times as people read them; JSON output has them as plain numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from graphdriver.serving.times import rfc3339

UNKNOWN: Final = "-"
"""Shown for a value that is not known."""

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_PERIODS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def size(count: float | None) -> str:
    """Return bytes as Docker shows them, in powers of 1000: ``12.3MB``."""
    if count is None:
        return UNKNOWN
    for unit in _UNITS:
        # What would be shown as 1000 belongs to the next unit.
        if abs(count) < 999.5 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f}{unit}" if unit == "B" or abs(count) >= 99.95 else f"{count:.3g}{unit}"


def number(count: int | None) -> str:
    """Return a count with commas: ``12,345``."""
    return UNKNOWN if count is None else f"{count:,}"


def several(count: int, what: str) -> str:
    """Return a count of things: ``1 layer``, ``2 layers``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def period(seconds: float | None) -> str:
    """Return a length of time in its two largest units: ``3 d 4 h``, ``12 s``, ``350 ms``."""
    if seconds is None:
        return UNKNOWN
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.3g} ms" if seconds >= 1e-3 else _microseconds(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    left = round(seconds)
    parts: list[str] = []
    for length, unit in _PERIODS:
        count, left = divmod(left, length)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
    return " ".join(filter(None, parts[:2]))


def _microseconds(seconds: float) -> str:
    return f"{max(seconds, 0) * 1e6:.0f} µs"


def ago(then: float | None, now: float) -> str:
    """Return how long ago something was, in its largest unit: ``3 d ago``.

    Args:
        then: in seconds since 1970; None: it never was.
        now: likewise.
    """
    if then is None:
        return UNKNOWN
    if now - then < 1:
        return "now"
    return f"{' '.join(period(now - then).split()[:2])} ago"


def part(some: int, whole: int) -> str:
    """Return a part of a whole in percent: ``12%``; less than all of it is less than 100%."""
    if whole <= 0:
        return UNKNOWN
    return f"{some * 100 // whole}%"


def moment(seconds: float | None) -> str | None:
    """Return a time as RFC 3339 writes it, in UTC; None stays None."""
    return None if seconds is None else rfc3339(seconds)


def clock(seconds: float) -> str:
    """Return a time for people: ``2026-11-28 23:51:24 UTC``."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def milliseconds(seconds: float | None) -> float | None:
    """Return seconds in milliseconds; None stays None."""
    return None if seconds is None else round(seconds * 1000, 3)


def rate(per_second: float) -> str:
    """Return bytes per second: ``12.3MB/s``."""
    return f"{size(per_second)}/s"
