"""Calls for one layer from many callers at once: is there any order in which all answers are right?

Each call has a beginning and an end. Where two overlap, either may have come first; where they do not,
the earlier one did. The answers are right if, in some such order, each is what the layer's state then
allows (that is linearizability, by plain search).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

State = Hashable


@dataclass(frozen=True)
class Did:
    """A call that was made, and what came of it."""

    started: float
    ended: float
    call: str
    result: Hashable

    def overlaps(self, other: Did) -> bool:
        return self.started < other.ended and other.started < self.ended


Next = Callable[[Did, State], State | None]
"""Return the state after a call, or None if its result cannot be in this state."""


def outcomes(history: list[Did], before: Iterable[State], after: Next) -> set[State]:
    """Return the states that may be reached by all calls of a history; none if no order explains it."""
    everything = frozenset(range(len(history)))
    seen: set[tuple[frozenset[int], State]] = set()
    reached: set[State] = set()
    pending = [(everything, state) for state in before]
    while pending:
        left, state = pending.pop()
        if (left, state) in seen:
            continue
        seen.add((left, state))
        if not left:
            reached.add(state)
            continue
        first_end = min(history[number].ended for number in left)
        for number in left:
            if history[number].started <= first_end:
                then = after(history[number], state)
                if then is not None:
                    pending.append((left - {number}, then))
    return reached
