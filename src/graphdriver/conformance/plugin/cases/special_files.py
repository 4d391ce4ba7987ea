"""Devices, FIFOs, sockets, and names of all kinds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect, expect_tree
from graphdriver.conformance.kit.tree import ODD_NAMES
from graphdriver.conformance.plugin import references, tars
from graphdriver.conformance.plugin.diffs import entries, expect_changes, line
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("special-files", "devices, FIFOs, sockets, and unusual names")

_LONGEST = b"x" * 255


@GROUP.case(see=references.SPECIAL_FILES)
def devices_and_fifos(kit: Kit) -> None:
    """Devices with large numbers, and FIFOs, are applied with mode and owner, and are in the Diff.

    Images of whole systems contain /dev. A device with the wrong number gives a container another
    device.
    """
    layer = kit.applied(
        tars.tar(
            tars.header(b"null", b"3", mode=0o666, device=(1, 3), mtime=5),
            tars.header(b"disk", b"4", mode=0o660, gid=6, device=(259, 70_000), mtime=5),
            tars.header(b"fifo", b"6", mode=0o620, uid=7, mtime=5),
        )
    )
    found = kit.record(layer)
    expected = {
        b"null": (oct(stat.S_IFCHR | 0o666), 0, 0, os.makedev(1, 3)),
        b"disk": (oct(stat.S_IFBLK | 0o660), 0, 6, os.makedev(259, 70_000)),
        b"fifo": (oct(stat.S_IFIFO | 0o620), 7, 0, 0),
    }
    expect("mode, owner and device", {name: facts[:4] for name, facts in found.items()}, expected)
    copy = kit.applied(kit.diff(layer))
    expect_tree("a layer made from the Diff", kit.record(copy), found)


@GROUP.case(see=references.SPECIAL_FILES, required=False)
def linked_devices_and_fifos(kit: Kit) -> None:
    """Devices and FIFOs with two names stay one file each, in the layer and in its Diff.

    A tar holds the second name of a device as a hard link. A copy instead is another file, with
    owners and modes of its own.
    """

    def fill(root: Path) -> None:
        os.mkfifo(root / "fifo")
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        for name in ("fifo", "null"):
            os.link(root / name, root / f"{name}2")

    layer = kit.layer(fill=fill)
    copy = kit.applied(kit.diff(layer))
    for what, one in (("a layer", layer), ("a layer made from its Diff", copy)):
        files = {name: facts.file for name, facts in kit.record(one).items()}
        expected = {b"fifo": b"fifo", b"fifo2": b"fifo", b"null": b"null", b"null2": b"null"}
        expect(f"which file each name of {what} is", files, expected)


@GROUP.case(see=references.SOCKETS)
def sockets_are_left_out(kit: Kit) -> None:
    """A socket in a layer is no error: the Diff leaves it out.

    A build that leaves a socket behind, such as an agent's, must not fail. A tar cannot hold a
    socket.
    """

    def fill(root: Path) -> None:
        (root / "run").mkdir()
        (root / "run" / "file").touch()
        os.mknod(root / "run" / "agent", stat.S_IFSOCK | 0o600)

    layer = kit.layer(fill=fill)
    expect("names in the Diff", sorted(entries(kit.diff(layer))), ["run", "run/file"])
    expect(
        "names in a copy", sorted(kit.record(kit.applied(kit.diff(layer)))), [b"run", b"run/file"]
    )


@GROUP.case(see=references.NAMES)
def names_of_any_bytes(kit: Kit) -> None:
    """Names with line feeds, with bytes that are not UTF-8, or of 255 bytes, are kept.

    On Linux a name is up to 255 bytes of any value but slash and zero. A plugin that takes names
    for UTF-8 fails on images that hold others.
    """
    expected = {b"odd", *(b"odd/" + name for name in ODD_NAMES)}
    entries = [tars.directory(b"odd")]
    for name in ODD_NAMES:
        if len(name) > 90:
            entries.append(tars.gnu_long(b"L", b"odd/" + name))
        entries.append(tars.file((b"odd/" + name)[:100], magic=tars.GNU))
    layer = kit.applied(tars.tar(*entries))
    expect("names in the layer", set(kit.record(layer)), expected)
    expect("names in its child", set(kit.record(kit.layer(layer))), expected)
    expect("names in a copy", set(kit.record(kit.applied(kit.diff(layer)))), expected)
    listed = [line("A", name) for name in expected]
    expect_changes("Changes", kit.driver, layer, "", listed)


@GROUP.case(see=references.NAMES)
def deep_directories(kit: Kit) -> None:
    """Files thirty directories down, with paths of over a thousand bytes, are kept.

    node_modules nests this deep. A path that is too long for one system call must be walked in
    parts.
    """
    path = b"/".join([b"d" * 40] * 30) + b"/file"
    layer = kit.applied(tars.tar(tars.pax([(b"path", path)]), tars.file(b"cut", b"deep down")))
    base = kit.layer()
    for what, one in (
        ("the layer", layer),
        ("its child", kit.layer(layer)),
        ("a copy", kit.applied(kit.diff(layer), base)),
    ):
        found = kit.record(one)
        expect(f"whether the file is in {what}", path in found, True)
        expect(f"its content in {what}", found[path].content, b"deep down")


@GROUP.case(required=False)
def devices_below_can_be_deleted(kit: Kit) -> None:
    """A container can delete a device of its image, and the Diff contains the deletion.

    A driver that marks a deletion by a device may not be able to mark the deletion of a device. rm
    then fails in the container.
    """
    base = kit.applied(
        tars.tar(
            tars.directory(b"dev"),
            tars.header(b"dev/null", b"3", device=(1, 3)),
            tars.header(b"dev/disk", b"4", device=(8, 0)),
            tars.header(b"dev/fifo", b"6"),
        )
    )

    def delete(root: Path) -> None:
        for name in ("null", "disk", "fifo"):
            (root / "dev" / name).unlink()

    layer = kit.layer(base, delete)
    expect("names in the layer", list(kit.record(layer)), [b"dev"])
    expect_changes(
        "Changes",
        kit.driver,
        layer,
        base,
        ["C /dev", "D /dev/disk", "D /dev/fifo", "D /dev/null"],
    )
    copy = kit.applied(kit.diff(layer, base), base)
    expect("names in a copy", list(kit.record(copy)), [b"dev"])


@GROUP.case(required=False)
def longest_names_below_can_be_deleted(kit: Kit) -> None:
    """A container can delete a file of its image with a name of 255 bytes, also in the Diff.

    A driver that marks a deletion by a longer name, such as .wh.NAME, has no room for it on disk.
    rm then fails in the container.
    """
    base = kit.applied(tars.tar(tars.gnu_long(b"L", _LONGEST), tars.file(b"cut", magic=tars.GNU)))
    layer = kit.layer(base, lambda root: (root / os.fsdecode(_LONGEST)).unlink())
    expect("names in the layer", list(kit.record(layer)), [])
    copy = kit.applied(kit.diff(layer, base), base)
    expect("names in a copy", list(kit.record(copy)), [])
