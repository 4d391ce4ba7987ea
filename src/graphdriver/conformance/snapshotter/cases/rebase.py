"""The capability ``rebase``: layers that are filled before their parents are known."""

from __future__ import annotations

import stat
from typing import Final

import grpc

from graphdriver.conformance.kit.case import Group, Need
from graphdriver.conformance.kit.expect import Mismatch, expect, expect_tree
from graphdriver.conformance.snapshotter import references
from graphdriver.conformance.snapshotter.calls import (
    INVALID,
    NOT_FOUND,
    PRECONDITION,
    code_of,
    expect_code,
)
from graphdriver.conformance.snapshotter.kit import Kit
from graphdriver.conformance.snapshotter.layers import directory, file, hard_link, layer
from graphdriver.containerd import _messages_pb2 as pb

GROUP: Group[Kit] = Group("rebase", "layers that get their parents with Commit")

_NEEDS: Final = (Need.CONTENT, Need.REBASE)
_BELOW: Final = layer(
    directory("d", 0o750, uid=7), file("d/old", b"old"), file("d/gone"), file("kept", b"kept")
)


def _filled(kit: Kit, tar: bytes, parent: str = "") -> str:
    """Prepare a snapshot, and fill it with a layer; return its key."""
    key = kit.key("active")
    kit.diffs.apply(kit.content.add(tar), kit.calls.prepare(key, parent))
    return key


def _below(kit: Kit) -> str:
    """Commit the lowest layer; return its name."""
    name = kit.key("committed")
    kit.calls.commit(name, _filled(kit, _BELOW))
    return name


def _in_order(kit: Kit, tar: bytes) -> str:
    """Commit a layer that was prepared on its parent; return its name."""
    name = kit.key("committed")
    kit.calls.commit(name, _filled(kit, tar, _below(kit)))
    return name


def _out_of_order(kit: Kit, tar: bytes) -> str:
    """Commit a layer that was filled before the one below was known; return its name."""
    key, name = _filled(kit, tar), kit.key("committed")
    kit.calls.commit(name, key, parent=_below(kit))
    return name


def _expect_same(kit: Kit, tar: bytes) -> None:
    """Expect that a layer shows the same whether its parent came with Prepare or with Commit.

    Without the times of directories: an unpacker may leave those of its own work there.
    """
    saw, expected = (
        {
            path: facts._replace(mtime_ns=0) if stat.S_ISDIR(int(facts.mode, 8)) else facts
            for path, facts in kit.record(made(kit, tar)).items()
        }
        for made in (_out_of_order, _in_order)
    )
    expect_tree("a snapshot that got its parent with Commit", saw, expected)


@GROUP.case(*_NEEDS, see=references.REBASE)
def parent_comes_with_commit(kit: Kit) -> None:
    """A snapshot that was filled without a parent has the one that Commit names.

    containerd unpacks all layers of an image at once, and commits them from the lowest one on.
    """
    below = _below(kit)
    key, name = _filled(kit, layer(file("new", b"new"))), kit.key("committed")
    kit.calls.commit(name, key, parent=below)
    found = kit.calls.stat(name)
    expect("the parent", found.parent, below)
    expect("the kind", found.kind, pb.COMMITTED)
    expect_code("Remove of the parent", PRECONDITION, lambda: kit.calls.remove(below))
    expect("names in the snapshot", sorted(kit.record(name)), sorted([*kit.record(below), b"new"]))


@GROUP.case(*_NEEDS, see=references.REBASE)
def whiteouts_delete_below(kit: Kit) -> None:
    """Whiteouts of a layer that was filled without a parent delete from the parent.

    When they are applied there is nothing below. Kept as files, they show what the image deleted.
    """
    _expect_same(kit, layer(file(".wh.kept"), directory("d"), file("d/.wh.gone")))


@GROUP.case(*_NEEDS, see=references.REBASE)
def unnamed_directories_are_as_below(kit: Kit) -> None:
    """A directory that a layer does not name keeps the mode and owner that it has below.

    A layer with `d/new` alone is common. Made anew, its directory opens what was closed.
    """
    _expect_same(kit, layer(file("d/new", b"new")))


@GROUP.case(*_NEEDS, see=references.REBASE)
def hard_links_lead_below(kit: Kit) -> None:
    """A hard link to a file of the parent is one file with it.

    Its target is known only with Commit.
    """
    _expect_same(kit, layer(hard_link("again", "d/old")))


@GROUP.case(*_NEEDS, see=references.REBASE)
def opaque_root_hides_below(kit: Kit) -> None:
    """A layer with an opaque root shows nothing of its parent.

    A mount may ignore the mark of an opaque directory on its root.
    """
    _expect_same(kit, layer(file(".wh..wh..opq"), file("new", b"new")))


@GROUP.case(*_NEEDS, see=references.REBASE)
def missing_link_target_is_refused(kit: Kit) -> None:
    """Commit is rejected if a hard link has no target in the layer or its parents, and names the link.

    Left out, a file of the image is missing, and nobody is told.
    """
    key, name = _filled(kit, layer(hard_link("again", "nothing"))), kit.key("committed")
    below = _below(kit)
    try:
        kit.calls.commit(name, key, parent=below)
    except grpc.RpcError as error:
        expect("whether the text names the link", "again" in str(error), True)
    else:
        raise Mismatch("Commit of a link to nothing", "success", "an error")
    expect_code("Stat of its name", NOT_FOUND, lambda: kit.calls.stat(name))
    kit.calls.remove(key)
    kit.calls.remove(below)


@GROUP.case(*_NEEDS, see=references.REBASE)
def written_by_others_is_refused(kit: Kit) -> None:
    """A snapshot that something else than the diff service wrote to gets no parent.

    containerd's own differ writes the whiteouts of a layer without a parent as files.
    """
    below = _below(kit)
    key = kit.active(write=lambda root: (root / ".wh.kept").touch())
    name = kit.key("committed")
    expect_code(
        "Commit with a parent", PRECONDITION, lambda: kit.calls.commit(name, key, parent=below)
    )
    expect("the kind afterwards", kit.calls.stat(key).kind, pb.ACTIVE)


@GROUP.case(*_NEEDS, see=references.REBASE)
def wrong_parents_are_refused(kit: Kit) -> None:
    """Commit with a parent that is missing, or not committed, is rejected; then the right one works.

    A collection may have removed the parent meanwhile.
    """
    key, other, name = _filled(kit, layer(file("new"))), kit.active(), kit.key("committed")
    for what, parent, code in (
        ("a missing parent", kit.key("missing"), NOT_FOUND),
        ("an active parent", other, INVALID),
    ):
        try:
            kit.calls.commit(name, key, parent=parent)
        except grpc.RpcError as error:
            expect(f"the code of a Commit with {what}", code_of(error).name, code.name)
        else:
            raise Mismatch(f"Commit with {what}", "success", code.name)
    kit.calls.commit(name, key, parent=_below(kit))
