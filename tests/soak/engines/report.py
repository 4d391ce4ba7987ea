"""What was done, in figures."""

from __future__ import annotations

from collections import Counter

from tests.soak.engines.side import Side


def shown(side: Side) -> str:
    """Return the figures of a side, a line for each kind."""
    figures = side.figures
    lines = [
        f"{side.engine} on {side.driver}: {figures.rounds} rounds, "
        f"{sum(figures.actions.values())} actions, {sum(figures.refused.values())} refused, "
        f"{sum(figures.calls.values())} calls, {figures.bytes >> 20} MiB, "
        f"{figures.garbage} forgotten layers, "
        f"at most {figures.most_memory >> 20} MiB and {figures.most_descriptors} descriptors",
        f"  actions: {_counted(figures.actions)}",
        f"  refused: {_counted(figures.refused)}",
        f"  disturbances: {_counted(figures.disturbances)}",
        f"  ended by itself: {_counted(figures.ended)}",
        f"  calls: {_counted(figures.calls)}",
        f"  errors: {_counted(side.errors.understood)}",
        *(f"  not understood: {riddle}" for riddle in side.errors.riddles),
    ]
    return "\n".join(lines)


def _counted(what: Counter[str]) -> str:
    return ", ".join(f"{name} {times}" for name, times in what.most_common()) or "none"
