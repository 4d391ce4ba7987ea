"""The figures of a served home: its calls by kind, their errors and durations, and bytes.

Callers are threads, and each call adds to these figures at its end. A small call takes some 60 µs, so
this must not take more than one or two: one lock, and a list of counts for each kind of call.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from typing import Final

BUCKETS: Final = tuple(base * 10.0**power for power in range(-5, 3) for base in (1.0, 2.0, 5.0))
"""The upper bounds of the counted durations, in seconds: 10 µs to 500 s; longer calls come last."""


class CallFigures:
    """The figures of one kind of call.

    Attributes:
        count: calls that ended.
        seconds: how long these took together.
        buckets: how many of them took at most `BUCKETS` seconds, each in its own bucket alone; the
            last element counts longer ones.
        errors: failures by their kind (`graphdriver.errors.Kind`), as text.
    """

    __slots__ = ("buckets", "count", "errors", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.errors: dict[str, int] = {}

    def copy(self) -> CallFigures:
        """Return a copy, which later calls do not change."""
        copy = CallFigures()
        copy.count, copy.seconds = self.count, self.seconds
        copy.buckets, copy.errors = [*self.buckets], {**self.errors}
        return copy

    def quantile(self, part: float) -> float | None:
        """Return an upper bound of the time that a part of the calls took, in seconds.

        Args:
            part: from 0 to 1; 0.99 for the 99th percentile.

        Returns:
            The bound of the bucket that it lies in, infinity for the last; None without calls.
        """
        if not self.count:
            return None
        wanted = part * self.count
        seen = 0
        for bound, count in zip((*BUCKETS, float("inf")), self.buckets, strict=True):
            seen += count
            if count and seen >= wanted:
                return bound
        return None


class Figures:
    """The figures of a process since its start.

    Attributes:
        started: when, in seconds since 1970.
        calls: the figures of each kind of call, by the protocol's name for it.
        bytes_in: bytes of layers' tars that came in (ApplyDiff).
        bytes_out: bytes of layers' tars that went out (Diff).
        last_sync: when a layer or the home was last synced, in seconds since 1970; None: never.
    """

    def __init__(self) -> None:
        self.started = time.time()
        self.calls: dict[str, CallFigures] = {}
        self.bytes_in = 0
        self.bytes_out = 0
        self.last_sync: float | None = None
        self._guard = threading.Lock()

    def ended(self, name: str, seconds: float, error: str = "") -> None:
        """Count a call that ended.

        Args:
            name: the protocol's name for it.
            seconds: how long it took.
            error: the kind of its failure; ``""`` after a success.
        """
        bucket = bisect_left(BUCKETS, seconds)
        with self._guard:
            figures = self.calls.get(name)
            if figures is None:
                figures = self.calls[name] = CallFigures()
            figures.count += 1
            figures.seconds += seconds
            figures.buckets[bucket] += 1
            if error:
                figures.errors[error] = figures.errors.get(error, 0) + 1

    def calls_now(self) -> dict[str, CallFigures]:
        """Return copies of the figures of each kind of call, all of the same moment."""
        with self._guard:
            return {name: figures.copy() for name, figures in self.calls.items()}

    def came_in(self, count: int) -> None:
        """Count bytes of a layer's tar that came in."""
        with self._guard:
            self.bytes_in += count

    def went_out(self, count: int) -> None:
        """Count bytes of a layer's tar that went out."""
        with self._guard:
            self.bytes_out += count
