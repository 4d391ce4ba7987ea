"""What is refused, and with which code."""

from __future__ import annotations

from collections.abc import Callable

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect
from graphdriver.conformance.snapshotter import references as issues
from graphdriver.conformance.snapshotter.kit import (
    EXISTS,
    INVALID,
    NOT_FOUND,
    PRECONDITION,
    SnapshotKit,
    answered,
)

GROUP: Group[SnapshotKit] = Group("refusals", "what is refused, and with which code")


@GROUP.case(issues.CODES)
def missing_keys(kit: SnapshotKit) -> None:
    """Stat, Mounts, Usage, Update, Commit and Remove of a key that is not there are NotFound."""
    key, name = kit.key("missing"), kit.key("name")
    calls: dict[str, Callable[[], object]] = {
        "Stat": lambda: kit.calls.stat(key),
        "Mounts": lambda: kit.calls.mounts(key),
        "Usage": lambda: kit.calls.usage(key),
        "Update": lambda: kit.calls.update(key, {}),
        "Commit": lambda: kit.calls.commit(name, key),
        "Remove": lambda: kit.calls.remove(key),
    }
    for call, make in calls.items():
        answered(f"{call} of a key that is not there", NOT_FOUND, make)


@GROUP.case(issues.CODES)
def missing_parents(kit: SnapshotKit) -> None:
    """Prepare and View upon a parent that is not there are NotFound, and make nothing."""
    key, parent = kit.key(), kit.key("missing")
    answered("Prepare upon nothing", NOT_FOUND, lambda: kit.calls.prepare(key, parent))
    answered("View of nothing", NOT_FOUND, lambda: kit.calls.view(key, parent))
    answered("Stat after that", NOT_FOUND, lambda: kit.calls.stat(key))


@GROUP.case(issues.CODES)
def taken_keys(kit: SnapshotKit) -> None:
    """Prepare and View of a key that is taken, active, committed or view, are AlreadyExists."""
    name = kit.committed()
    active, view = kit.active(name), kit.key("view")
    kit.calls.view(view, name)
    for taken in (active, view, name):
        answered("Prepare of a taken key", EXISTS, lambda k=taken: kit.calls.prepare(k, name))  # type: ignore[misc]
        answered("View of a taken key", EXISTS, lambda k=taken: kit.calls.view(k, name))  # type: ignore[misc]


@GROUP.case(issues.CODES)
def taken_names(kit: SnapshotKit) -> None:
    """Commit under a name that is taken is AlreadyExists, and leaves the active snapshot."""
    name, active = kit.committed(), kit.active()
    answered("Commit under a taken name", EXISTS, lambda: kit.calls.commit(name, active))
    expect("whether it is still there", kit.calls.stat(active).name, active)


@GROUP.case(issues.CODES)
def parents_that_are_not_committed(kit: SnapshotKit) -> None:
    """Prepare and View upon an active snapshot or a view are InvalidArgument."""
    active, view = kit.active(), kit.key("view")
    kit.calls.view(view, kit.committed())
    for parent in (active, view):
        key = kit.key()
        answered("Prepare upon it", INVALID, lambda p=parent, k=key: kit.calls.prepare(k, p))  # type: ignore[misc]
        answered("View of it", INVALID, lambda p=parent, k=key: kit.calls.view(k, p))  # type: ignore[misc]


@GROUP.case(issues.CODES)
def remove_beneath_children(kit: SnapshotKit) -> None:
    """Remove of what others stand on is FailedPrecondition, and takes nothing."""
    below = kit.committed(write=lambda root: (root / "file").write_text("x"))
    above = kit.committed(below)
    view = kit.key("view")
    kit.calls.view(view, above)
    for name in (below, above):
        answered("Remove beneath a child", PRECONDITION, lambda n=name: kit.calls.remove(n))  # type: ignore[misc]
    expect("what is there after that", list(kit.record(above)), [b"file"])


@GROUP.case(issues.CODES)
def mounts_of_a_committed_snapshot(kit: SnapshotKit) -> None:
    """Mounts of a committed snapshot is FailedPrecondition."""
    name = kit.committed()
    answered("Mounts of a committed snapshot", PRECONDITION, lambda: kit.calls.mounts(name))


@GROUP.case(issues.CODES)
def commit_of_what_is_not_active(kit: SnapshotKit) -> None:
    """Commit of a view, and of a committed snapshot, is FailedPrecondition."""
    name, view, new = kit.committed(), kit.key("view"), kit.key("new")
    kit.calls.view(view, name)
    answered("Commit of a view", PRECONDITION, lambda: kit.calls.commit(new, view))
    answered("Commit of a committed one", PRECONDITION, lambda: kit.calls.commit(new, name))
    answered("Stat of the new name", NOT_FOUND, lambda: kit.calls.stat(new))


@GROUP.case(issues.COLLECTION)
def removed_from_the_top(kit: SnapshotKit) -> None:
    """Snapshots are removed children first; a key that was removed is free again."""
    below = kit.committed()
    above = kit.committed(below)
    active = kit.active(above)
    for key in (active, above, below):
        kit.calls.remove(key)
        answered("Stat of what was removed", NOT_FOUND, lambda k=key: kit.calls.stat(k))  # type: ignore[misc]
    kit.calls.prepare(active)
