"""Changes as tests look at them, and as the packer takes them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from graphdriver.driver import Change, ChangeKind
from graphdriver.layer.change_list import Changed, ChangeList, ChangeReport
from graphdriver.layer.changes import compare
from graphdriver.layer.overlay.changes import compare_upper


def changes(upper: int, lower: int | None, untouched_before_ns: int | None = None) -> list[Change]:
    """Compare two open trees."""
    return list(ChangeList(compare(upper, lower, untouched_before_ns=untouched_before_ns)))


def upper_changes(upper: int, lowers: Sequence[int]) -> list[Change]:
    """Compare an open upper directory with those below it."""
    return list(ChangeList(compare_upper(upper, lowers)))


def change_list(given: Sequence[Change]) -> ChangeList:
    """Make a list by hand: directories before what is in them."""
    return ChangeList(_found(given))


def _found(given: Sequence[Change]) -> Iterator[Changed]:
    report, at = ChangeReport(), list[bytes]()
    kinds: dict[bytes, ChangeKind] = {os.fsencode(one.path): one.kind for one in given}
    for path in sorted(kinds, key=lambda path: path.replace(b"/", b"\0")):
        *directories, name = path.split(b"/")[1:]
        while at != directories[: len(at)]:
            at.pop()
            report.leave()
        for directory in directories[len(at) :]:
            at.append(directory)
            is_listed = b"/" + b"/".join(at) in kinds
            report.enter(directory, is_listed=is_listed)
        yield from report.change(name, kinds[path], None)
