"""What each layer added, changed and deleted: sums of all, and the names of some.

A layer may change a million paths. All of them are counted, and only the most interesting ones are
kept: the deletions, and the largest files.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from graphdriver.abilities import ability
from graphdriver.driver import Change, ChangeKind, ProtoDriver
from graphdriver.drivers.loading import describe_exception
from graphdriver.errors import GraphDriverError
from graphdriver.homes import ReadsChanges, SizedChange


class Total(NamedTuple):
    """The sum of a layer's changes of one kind."""

    paths: int
    size: int


AskPlugin: TypeAlias = Callable[[str, str], Iterable[Change]]
"""Returns the changes of a layer, given its ID and its parent's."""

NOTHING: Final = Total(0, 0)


@dataclass(frozen=True, slots=True)
class LayerChanges:
    """The changes of one layer.

    Attributes:
        totals: the sum of each kind of change.
        listed: some of the changes: deletions first, then files from the largest down, then by path.
        problem: why there are no others, in one sentence without a full stop; ``""``: these are all.
    """

    totals: Mapping[ChangeKind, Total]
    listed: tuple[SizedChange, ...] = ()
    problem: str = ""

    @property
    def unlisted(self) -> int:
        """How many changes were counted only."""
        return sum(total.paths for total in self.totals.values()) - len(self.listed)


def read_changes(
    driver: type[ProtoDriver] | None,
    home: str,
    id: str,
    parent: str | None,
    limit: int,
    ask: AskPlugin | None = None,
) -> LayerChanges:
    """Return what a layer changed, as its driver finds it in the home, or else as the plugin tells.

    Args:
        driver: the driver's class; None: it is not installed here.
        home: the home.
        id: the layer.
        parent: its parent; ``""``: it has none; None: unknown.
        limit: how many changes are listed.
        ask: calls Changes of the running plugin, which tells no sizes; None: none runs.
    """
    if parent is None:
        return LayerChanges({}, problem="its parent is unknown")
    reads = ability(driver, ReadsChanges) if driver else None
    try:
        if reads:
            return summed(reads.stored_changes(home, id, parent), limit)
        if ask:
            told = (SizedChange(one.path, one.kind, 0) for one in ask(id, parent))
            return summed(told, limit)
    except GraphDriverError as error:
        return LayerChanges({}, problem=error.problem)
    except OSError as error:
        return LayerChanges({}, problem=f"{error.filename or home}: {error.strerror or error}")
    except (Exception, SystemExit) as error:  # the driver may be anybody's
        return LayerChanges({}, problem=describe_exception(error))
    return LayerChanges({}, problem="the driver's class cannot tell, and no plugin runs")


def summed(changes: Iterable[SizedChange], limit: int) -> LayerChanges:
    """Return the sums of changes, and the ``limit`` most interesting of them."""
    totals = dict.fromkeys(ChangeKind, NOTHING)

    def counted() -> Iterator[SizedChange]:
        for change in changes:
            if change.kind is ChangeKind.MODIFIED and change.path.endswith("/"):
                continue  # most are only listed for what is in them
            paths, size = totals[change.kind]
            totals[change.kind] = Total(paths + 1, size + change.size)
            yield change

    listed = heapq.nsmallest(
        limit, counted(), key=lambda one: (one.kind is not ChangeKind.DELETED, -one.size, one.path)
    )
    return LayerChanges(totals, tuple(listed))
