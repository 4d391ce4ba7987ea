"""Rejected calls, and their codes."""

from __future__ import annotations

from collections.abc import Callable

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect
from graphdriver.conformance.snapshotter.calls import (
    EXISTS,
    INVALID,
    NOT_FOUND,
    PRECONDITION,
    expect_code,
)
from graphdriver.conformance.snapshotter.kit import Kit

GROUP: Group[Kit] = Group("refusals", "rejected calls, and their codes")


@GROUP.case()
def missing_keys(kit: Kit) -> None:
    """Stat, Mounts, Usage, Update, Commit and Remove of an unknown key are NotFound.

    containerd acts on the code. For example, any code of Remove other than NotFound and
    FailedPrecondition stops the whole garbage collection.
    """
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
        expect_code(f"{call} of a key that is not there", NOT_FOUND, make)


@GROUP.case()
def missing_parents(kit: Kit) -> None:
    """Prepare and View with an unknown parent are NotFound, and create nothing.

    A layer whose parent is gone must be unpacked again from its parents on. containerd does that
    only if the code is NotFound.
    """
    key, parent = kit.key(), kit.key("missing")
    expect_code("Prepare on nothing", NOT_FOUND, lambda: kit.calls.prepare(key, parent))
    expect_code("View of nothing", NOT_FOUND, lambda: kit.calls.view(key, parent))
    expect_code("Stat after that", NOT_FOUND, lambda: kit.calls.stat(key))


@GROUP.case()
def used_keys(kit: Kit) -> None:
    """Prepare and View of a key in use (active, committed or view) are AlreadyExists.

    containerd tries another key, or looks for the finished layer, only if the code is
    AlreadyExists.
    """
    name = kit.committed()
    active, view = kit.active(name), kit.key("view")
    kit.calls.view(view, name)
    for taken in (active, view, name):
        expect_code("Prepare of a key in use", EXISTS, lambda k=taken: kit.calls.prepare(k, name))  # type: ignore[misc]
        expect_code("View of a key in use", EXISTS, lambda k=taken: kit.calls.view(k, name))  # type: ignore[misc]


@GROUP.case()
def used_names(kit: Kit) -> None:
    """Commit to a name in use is AlreadyExists, and keeps the active snapshot.

    Two unpacks of one layer commit the same name. By AlreadyExists the second one takes the layer
    of the first.
    """
    name, active = kit.committed(), kit.active()
    expect_code("Commit to a name in use", EXISTS, lambda: kit.calls.commit(name, active))
    expect("whether it is still there", kit.calls.stat(active).name, active)


@GROUP.case()
def parents_that_are_not_committed(kit: Kit) -> None:
    """Prepare and View with an active snapshot or a view as parent are InvalidArgument.

    The content of an active snapshot still changes. A child of it would change as well, or miss
    what comes later.
    """
    active, view = kit.active(), kit.key("view")
    kit.calls.view(view, kit.committed())
    for parent in (active, view):
        key = kit.key()
        expect_code("Prepare on it", INVALID, lambda p=parent, k=key: kit.calls.prepare(k, p))  # type: ignore[misc]
        expect_code("View of it", INVALID, lambda p=parent, k=key: kit.calls.view(k, p))  # type: ignore[misc]


@GROUP.case()
def remove_of_a_parent(kit: Kit) -> None:
    """Remove of a snapshot with children is FailedPrecondition, and removes nothing.

    Children need their parent's files. The code tells containerd to remove the children first.
    """
    below = kit.committed(write=lambda root: (root / "file").write_text("x"))
    above = kit.committed(below)
    view = kit.key("view")
    kit.calls.view(view, above)
    for name in (below, above):
        expect_code("Remove beneath a child", PRECONDITION, lambda n=name: kit.calls.remove(n))  # type: ignore[misc]
    expect("content after that", list(kit.record(above)), [b"file"])


@GROUP.case()
def mounts_of_a_committed_snapshot(kit: Kit) -> None:
    """Mounts of a committed snapshot is FailedPrecondition.

    Whoever mounts a committed snapshot could write to it, and change every image on it. A View is
    the way to read it.
    """
    name = kit.committed()
    expect_code("Mounts of a committed snapshot", PRECONDITION, lambda: kit.calls.mounts(name))


@GROUP.case()
def commit_of_other_kinds(kit: Kit) -> None:
    """Commit of a view, or of a committed snapshot, is FailedPrecondition.

    A view has no changes of its own, and a committed snapshot is final. A second Commit would give
    its content a second name that disappears with it.
    """
    name, view, new = kit.committed(), kit.key("view"), kit.key("new")
    kit.calls.view(view, name)
    expect_code("Commit of a view", PRECONDITION, lambda: kit.calls.commit(new, view))
    expect_code("Commit of a committed one", PRECONDITION, lambda: kit.calls.commit(new, name))
    expect_code("Stat of the new name", NOT_FOUND, lambda: kit.calls.stat(new))


@GROUP.case()
def removed_children_first(kit: Kit) -> None:
    """Snapshots are removed children first; a removed key can be used again.

    The garbage collector removes children before parents. What remains fills the disk.
    """
    below = kit.committed()
    above = kit.committed(below)
    active = kit.active(above)
    for key in (active, above, below):
        kit.calls.remove(key)
        expect_code("Stat of a removed snapshot", NOT_FOUND, lambda k=key: kit.calls.stat(k))  # type: ignore[misc]
    kit.calls.prepare(active)
