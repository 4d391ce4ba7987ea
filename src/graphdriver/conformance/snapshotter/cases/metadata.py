"""The records of snapshots, and their changes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect, expect_soon
from graphdriver.conformance.snapshotter import references
from graphdriver.conformance.snapshotter.calls import INVALID, NOT_FOUND, expect_code
from graphdriver.conformance.snapshotter.kit import Kit
from graphdriver.containerd import _messages_pb2 as pb

GROUP: Group[Kit] = Group("metadata", "what a snapshotter knows of snapshots")

_LATE = 5 * 10**9
"""Nanoseconds by which a clock may be off."""


@GROUP.case(see=references.METADATA)
def kinds_names_and_parents(kit: Kit) -> None:
    """Stat returns name, parent and kind of active, committed and view snapshots.

    containerd keeps its own names and parents and relies on the snapshotter's being the same. For
    the second import of an image it only calls Stat.
    """
    below = kit.committed()
    active = kit.active(below)
    above = kit.committed(below)
    view = kit.key("view")
    kit.calls.view(view, above)
    for key, parent, kind in (
        (below, "", pb.COMMITTED),
        (active, below, pb.ACTIVE),
        (above, below, pb.COMMITTED),
        (view, above, pb.VIEW),
    ):
        found = kit.calls.stat(key)
        record = (found.name, found.parent, pb.Kind.Name(found.kind))
        expect(f"Stat of {key}", record, (key, parent, pb.Kind.Name(kind)))


@GROUP.case(see=references.METADATA)
def committed_key_is_gone(kit: Kit) -> None:
    """After Commit the active snapshot's key is unknown, and can be used again.

    containerd uses the keys of active snapshots again. A key that stays known after Commit makes
    the next unpack of an image fail.
    """
    active, name = kit.active(), kit.key("committed")
    kit.calls.commit(name, active)
    expect_code("Stat of a key that was committed", NOT_FOUND, lambda: kit.calls.stat(active))
    kit.calls.prepare(active, name)
    expect("parent of a snapshot of the same key", kit.calls.stat(active).parent, name)


@GROUP.case()
def times_at_creation(kit: Kit) -> None:
    """A new snapshot's times are equal and current, with nanoseconds.

    ctr snapshots info shows these times, and tools find old snapshots by them.
    """
    before = time.time_ns()
    stats = [kit.calls.stat(kit.active()) for _ in range(4)]
    for found in stats:
        expect("whether both times are the same", found.created_at == found.updated_at, True)
        off = found.created_at.ToNanoseconds() - before
        expect("whether it is now", -_LATE < off < _LATE, True)
    finest = any(found.created_at.nanos % 1_000_000 for found in stats)
    expect("whether times are finer than milliseconds", finest, True)


@GROUP.case(see=references.LABELS)
def labels_are_kept(kit: Kit) -> None:
    """Labels of Prepare and View are kept as they are.

    Labels protect snapshots from the garbage collector and carry the ID maps of containers. A lost
    label loses the snapshot.
    """
    labels = {"containerd.io/gc.root": "2024-01-01", "plain": "", "odd": 'a,b="c" é'}
    active, view = kit.key("active"), kit.key("view")
    kit.calls.prepare(active, "", **labels)
    kit.calls.view(view, kit.committed(), **labels)
    for key in (active, view):
        expect(f"labels of {key}", dict(kit.calls.stat(key).labels), labels)


@GROUP.case(see=references.LABELS)
def commit_replaces_labels(kit: Kit) -> None:
    """Commit replaces the labels of the active snapshot by its own.

    The labels of an active snapshot, such as that of a lease, are not those of the snapshot that
    Commit makes of it.
    """
    active, name = kit.key("active"), kit.key("committed")
    kit.calls.prepare(active, "", old="1")
    kit.calls.commit(name, active, new="2")
    expect("labels after Commit", dict(kit.calls.stat(name).labels), {"new": "2"})


@GROUP.case()
def update_of_one_label(kit: Kit) -> None:
    """Update with the path labels.KEY changes or removes that label, and no other.

    ctr snapshots label sends the one label that it changes. All others must stay.
    """
    key = kit.key("active")
    kit.calls.prepare(key, "", one="1", two="2", three="3")
    answer = kit.calls.update(key, {"one": "x", "three": "y"}, ["labels.one", "labels.two"])
    expect("labels that Update answers", dict(answer.labels), {"one": "x", "three": "3"})
    expect("labels in Stat", dict(kit.calls.stat(key).labels), {"one": "x", "three": "3"})


@GROUP.case()
def update_of_all_labels(kit: Kit) -> None:
    """Update with the path labels, or with an empty mask, replaces all labels.

    A client that sends the whole map expects exactly that map afterwards, without labels from
    before.
    """
    key = kit.key("active")
    kit.calls.prepare(key, "", old="1")
    expect("labels", dict(kit.calls.update(key, {"a": "1"}, ["labels"]).labels), {"a": "1"})
    expect("labels", dict(kit.calls.update(key, {"b": "2"}).labels), {"b": "2"})
    expect("labels at last", dict(kit.calls.stat(key).labels), {"b": "2"})


@GROUP.case()
def update_moves_one_time(kit: Kit) -> None:
    """Update changes the time of the last update, and not the time of creation.

    Whether a snapshot was changed since its creation can be seen only if the two times are kept
    apart.
    """
    key = kit.active()
    created = kit.calls.stat(key).created_at.ToNanoseconds()
    time.sleep(0.01)
    answer = kit.calls.update(key, {"a": "1"})
    expect("the time of its creation", answer.created_at.ToNanoseconds(), created)
    expect("whether its change is later", answer.updated_at.ToNanoseconds() > created, True)


@GROUP.case()
def update_of_other_fields(kit: Kit) -> None:
    """Update of name, parent, kind or times is InvalidArgument, and changes nothing.

    Names, parents and kinds of snapshots never change. A client that tries it has an error of its
    own, and must learn of it.
    """
    key = kit.active()
    before = kit.calls.stat(key)
    for path in ("name", "parent", "kind", "created_at", "updated_at"):
        expect_code(
            f"Update of {path}",
            INVALID,
            lambda path=path: kit.calls.update(key, {"a": "1"}, [path]),  # type: ignore[misc]
        )
    expect("whether Stat returns the same", kit.calls.stat(key) == before, True)


@GROUP.case(see=references.FILTERS)
def list_returns_all(kit: Kit) -> None:
    """List without a filter returns every snapshot, as Stat does.

    The garbage collector lists the snapshotter's snapshots and removes those that containerd's own
    records do not name. One that is not listed is never removed.
    """
    below = kit.committed()
    keys = [below, kit.active(below), kit.committed(below)]
    found = {info.name: info for info in kit.calls.list()}
    for key in keys:
        expect(
            f"whether List returns {key} as Stat does", found.get(key) == kit.calls.stat(key), True
        )


@GROUP.case(see=references.FILTERS)
def list_with_filters(kit: Kit) -> None:
    """List applies filters: ==, !=, ~=, presence, quotes; all parts of a filter, any of several.

    containerd selects snapshots in its filter language. A snapshotter that ignores a filter makes
    `ctr` and the CRI plugin act on too many.
    """
    below = kit.committed()
    active, other = kit.key("active"), kit.active(below)
    kit.calls.prepare(active, below, **{"a.b/c": "d e", "mine": below})
    quoted = f'labels."a.b/c"=="d e",parent=="{below}"'
    for filters, expected in (
        ((f'name=="{active}"',), {active}),
        ((f'parent=="{below}"',), {active, other}),
        ((f'parent=="{below}",name!="{other}"',), {active}),
        ((f'name~="^{below}$"',), {below}),
        ((quoted,), {active}),
        ((f'labels.mine,parent=="{below}"',), {active}),
        ((f'name=="{active}"', f'name=="{below}"'), {active, below}),
        ((f'kind==committed,name=="{below}"',), {below}),
        ((f'kind==active,name=="{below}"',), set()),
    ):
        found = {info.name for info in kit.calls.list(*filters)}
        expect(f"List with {filters}", found, expected)


@GROUP.case(see=references.FILTERS)
def bad_filters_are_invalid(kit: Kit) -> None:
    """List with a malformed filter is InvalidArgument.

    A filter that cannot be read must not become 'no filter', which selects all snapshots.
    """
    for text in ("name=", "==x", "name==a b", "name==a,,kind"):
        expect_code(f"List with the filter {text!r}", INVALID, lambda t=text: kit.calls.list(t))  # type: ignore[misc]


@GROUP.case()
def usage_is_the_snapshots_own(kit: Kit) -> None:
    """Usage counts the snapshot's own content, hard links once; a view has none.

    The kubelet evicts pods by their usage.
    """
    name = kit.committed(write=lambda root: (root / "file").write_bytes(bytes(200_000)))

    def look() -> str:
        size = kit.calls.usage(name).size
        return "" if 200_000 <= size < 300_000 else f"{size} bytes"

    expected = "200,000 bytes and some"
    expect_soon("usage of a snapshot that holds a file", look, expected, kit.patience)
    view = kit.key("view")
    kit.calls.view(view, name)
    expect("usage of a view", kit.calls.usage(view).size, 0)


@GROUP.case()
def cleanup_keeps_snapshots(kit: Kit) -> None:
    """Cleanup succeeds, and removes nothing that belongs to a snapshot.

    containerd calls Cleanup after each garbage collection, while snapshots are in use.
    """
    name = kit.committed(write=lambda root: (root / "file").write_text("x"))
    kit.calls.cleanup()
    expect("content after Cleanup", list(kit.record(name)), [b"file"])


@GROUP.case()
def callers_at_once(kit: Kit) -> None:
    """Eight callers prepare, commit and remove snapshots of one parent at once.

    containerd unpacks several images at once.
    """
    below = kit.committed()

    def work(_: int) -> None:
        for _ in range(5):
            name = kit.committed(below)
            expect("its parent", kit.calls.stat(name).parent, below)
            kit.calls.remove(name)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, number) for number in range(8)]:
            future.result()
