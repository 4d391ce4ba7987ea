"""Hostile images: each must be rejected, or made harmless.

What is outside of the layer is a directory of the case's own, with a canary in it: nothing in it may
change, and nothing of it may be seen through the layer.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from pathlib import Path

from graphdriver.conformance.kit.case import Group, Need
from graphdriver.conformance.kit.expect import Mismatch, either_way, expect, expect_tree, rejected
from graphdriver.conformance.kit.tree import Facts, record
from graphdriver.conformance.plugin import references, tars, wire
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("hostile-tars", "images that must be rejected, or made harmless")

_SECRET = b"only the host may read this"


class _Outside:
    """A directory outside of every layer."""

    def __init__(self, kit: Kit) -> None:
        self.directory = kit.scratch / "outside"
        self.directory.mkdir(mode=0o750)
        (self.directory / "canary").write_bytes(_SECRET)
        (self.directory / "sub").mkdir()
        (self.directory / "sub" / "file").write_bytes(_SECRET)
        self.path = os.fsencode(self.directory)
        """Absolute."""
        self.up = b"../" * 40 + self.path[1:]
        """The same from within a layer, if ``..`` led out of it."""
        self._kit = kit
        self._before = self._look()

    def _look(self) -> dict[bytes, Facts]:
        found = os.stat(self.directory)
        itself = Facts(oct(found.st_mode), found.st_uid, found.st_gid, 0, 0, {}, b"", b".")
        return {**record(str(self.directory)), b".": itself}

    def apply(self, *entries: bytes, parent: str = "") -> str:
        """Apply a tar, refused or not, and see that nothing outside has changed; return the layer."""
        id = self._kit.id()
        self._kit.driver.create(id, parent, "", {})
        with either_way() as rejection:
            self._kit.driver.apply_diff(id, parent, io.BytesIO(tars.tar(*entries)))
        expect_tree("a directory outside of the layer", self._look(), self._before)
        return "" if rejection.was else id

    def is_not_seen_in(self, id: str) -> None:
        """See that no file of a layer is one of the directory's."""
        if not id:
            return
        kept = {one.stat().st_ino for one in self.directory.rglob("*")}
        with self._kit.shown(id, is_read=True) as root:
            for path in root.rglob("*"):
                found = path.lstat()
                if stat.S_ISREG(found.st_mode):
                    is_secret = found.st_size == len(_SECRET) and path.read_bytes() == _SECRET
                    is_same = found.st_ino in kept and found.st_dev == self.directory.stat().st_dev
                    if is_secret or is_same:
                        raise Mismatch(f"{path.name} in the layer", "a file of the host's", "none")


def _named(name: bytes, entry: bytes) -> bytes:
    """Give an entry a name that its header may have no room for."""
    return tars.pax([(b"path", name)]) + entry


def _leading(to: bytes, entry: bytes) -> bytes:
    """Give a link a target that its header may have no room for."""
    return tars.pax([(b"linkpath", to)]) + entry


@GROUP.case(see=references.ESCAPE)
def names_that_climb(kit: Kit) -> None:
    """Entries with `..` in their names reach nothing outside the layer.

    A plugin unpacks images of unknown origin as root. With ../../etc/cron.d/x an image could write
    a program that the host runs.
    """
    outside = _Outside(kit)
    for name in (outside.up + b"/canary", b"a/b/" + outside.up + b"/new", b"./" + outside.up):
        outside.apply(
            tars.directory(b"a"),
            tars.directory(b"a/b"),
            _named(name, tars.file(b"x", b"overwritten")),
        )
    outside.apply(_named(outside.up + b"/sub", tars.directory(b"x", 0o777, uid=1234)))


@GROUP.case(see=references.ESCAPE)
def absolute_names(kit: Kit) -> None:
    """Entries with absolute names are created within the layer, or rejected.

    A plugin that joins paths may drop the layer's directory in front of an absolute name, and write
    to the host's /etc.
    """
    outside = _Outside(kit)
    outside.apply(_named(outside.path + b"/canary", tars.file(b"x", b"overwritten")))
    outside.apply(_named(outside.path, tars.directory(b"x", 0o777, uid=1234)))


@GROUP.case(see=references.ESCAPE)
def writing_through_a_symbolic_link(kit: Kit) -> None:
    """A symbolic link to a host's directory, and entries below it, reach nothing outside.

    The first entry is a link to /etc, the second a file below it. A plugin that follows the link
    overwrites the host's files.
    """
    outside = _Outside(kit)
    for target in (outside.path, outside.up):
        link = _leading(target, tars.symlink(b"a", b"x"))
        outside.apply(link, tars.file(b"a/canary", b"overwritten"))
        outside.apply(link, tars.file(b"a/new", b"new"))
        outside.apply(link, tars.directory(b"a/sub", 0o777, uid=1234))
        outside.apply(link, tars.symlink(b"a/new", b"x"))
        outside.apply(link, tars.directory(b"a", 0o777, uid=1234))
        outside.apply(link, tars.symlink(b"b", b"a"), tars.file(b"b/new", b"new"))


@GROUP.case(see=references.ESCAPE)
def writing_to_a_symbolic_link(kit: Kit) -> None:
    """A file over a symbolic link replaces the link, and not the link's target.

    The first entry is a link to /etc/passwd, the second a file of the same name. A plugin that
    opens the name for writing overwrites the host's file.
    """
    outside = _Outside(kit)
    link = _leading(outside.path + b"/canary", tars.symlink(b"a", b"x"))
    id = outside.apply(link, tars.file(b"a", b"overwritten", mode=0o777, uid=1234))
    if id:
        with kit.shown(id) as root:
            expect("whether the link is still there", (root / "a").is_symlink(), False)
            expect("the file in place of the link", (root / "a").read_bytes(), b"overwritten")


@GROUP.case(see=references.ESCAPE)
def links_of_the_layer_below(kit: Kit) -> None:
    """Entries below a symbolic link of the layer below reach nothing outside.

    The link was applied with an earlier layer, so a check of each tar alone does not find it.
    """
    outside = _Outside(kit)

    def link(root: Path) -> None:
        (root / "a").symlink_to(outside.directory)

    for entry in (
        tars.file(b"a/canary", b"x"),
        tars.file(b"a/new", b"x"),
        tars.directory(b"a/sub", 0),
    ):
        outside.apply(entry, parent=kit.layer(fill=link))


@GROUP.case(see=references.ESCAPE)
def hard_links_to_the_host(kit: Kit) -> None:
    """Hard links to the host's files, by any path, give the layer nothing of them.

    A hard link to the host's /etc/shadow gives a container the file itself, to read and to change.
    """
    outside = _Outside(kit)
    canary = outside.path + b"/canary"
    through = _leading(outside.path, tars.symlink(b"a", b"x"))
    for entries in (
        [_leading(canary, tars.hard_link(b"x", b"y"))],
        [_leading(outside.up + b"/canary", tars.hard_link(b"x", b"y"))],
        [through, tars.hard_link(b"x", b"a/canary")],
        [_leading(canary, tars.symlink(b"s", b"x")), tars.hard_link(b"x", b"s")],
    ):
        outside.is_not_seen_in(outside.apply(*entries))
        outside.apply(*entries, tars.file(b"x", b"overwritten"))


@GROUP.case(see=references.ESCAPE)
def whiteouts_that_reach_outside(kit: Kit) -> None:
    """Whiteouts of `..`, or through symbolic links, delete nothing outside the layer.

    A whiteout deletes. With .wh... as a name, or through a link, an image could delete the layer's
    parent directory, or the host's files.
    """
    outside = _Outside(kit)

    def link(root: Path) -> None:
        (root / "a").symlink_to(outside.directory)

    base = kit.layer(fill=link)
    for name in (
        b".wh...",
        b".wh..",
        b".wh.",
        b"a/.wh.canary",
        b"a/.wh.sub",
        b"a/.wh..wh..opq",
        outside.up + b"/.wh.canary",
        outside.path + b"/.wh.canary",
    ):
        outside.apply(_named(name, tars.whiteout(b"x")), parent=base)
        outside.apply(
            _leading(outside.path, tars.symlink(b"a", b"x")), _named(name, tars.whiteout(b"x"))
        )


@GROUP.case(see=references.INSTRUCTIONS)
def overlay_attributes_are_ignored(kit: Kit) -> None:
    """trusted.overlay.* attributes in a tar hide nothing and show nothing else.

    To the kernel's overlayfs these attributes are orders. An image could make it show other
    directories of the host, or hide files of the layers below.
    """

    def fill(root: Path) -> None:
        for name in ("shown", "other"):
            (root / name).mkdir()
            (root / name / "file").write_text(name)

    base = kit.layer(fill=fill)
    for space in (b"trusted", b"user"):
        for name, value in ((b"opaque", b"y"), (b"redirect", b"/other"), (b"metacopy", b"")):
            key = b"SCHILY.xattr.%b.overlay.%b" % (space, name)
            for parent in (base, kit.layer(base)):
                id = kit.id()
                kit.driver.create(id, parent, "", {})
                data = tars.tar(tars.pax([(key, value)]), tars.directory(b"shown"))
                with either_way() as rejection:
                    kit.driver.apply_diff(id, parent, io.BytesIO(data))
                if rejection.was:
                    continue
                with kit.shown(id) as root:
                    found = sorted(os.listdir(root / "shown")), os.listdir(root / "other")
                    text = (root / "shown" / "file").read_text() if found[0] else "nothing"
                what = f"a directory with the attribute {key.decode()}"
                expect(what, (found, text), ((["file"], ["file"]), "shown"))


@GROUP.case(see=references.INSTRUCTIONS)
def zero_devices_are_no_whiteouts(kit: Kit) -> None:
    """A 0:0 device in a tar deletes nothing: it is rejected, left out, or shown as a device.

    To the kernel's overlayfs a 0:0 device is a deletion. An image could hide files in a way that no
    scanner of tars sees.
    """
    base = kit.layer(fill=lambda root: (root / "file").write_text("x"))
    id = kit.id()
    kit.driver.create(id, base, "", {})
    data = tars.tar(tars.header(b"file", b"3", device=(0, 0)))
    with either_way() as rejection:
        kit.driver.apply_diff(id, base, io.BytesIO(data))
    if not rejection.was:
        expect("content of the layer", list(kit.record(id)), [b"file"])


@GROUP.case(see=references.ROOT_ENTRY)
def root_is_a_directory(kit: Kit) -> None:
    """An entry for the layer's root that is not a directory is rejected or ignored.

    An entry for a layer's root that is not a directory replaces the whole layer.
    """
    outside = _Outside(kit)
    for name in (b".", b"./", b"/"):
        for entry in (
            _leading(outside.path, tars.symlink(name, b"x")),
            tars.file(name, b"x"),
            tars.hard_link(name, b"x"),
        ):
            id = outside.apply(tars.file(b"x", b"x"), entry, tars.file(b"canary", b"overwritten"))
            outside.is_not_seen_in(id)
            if id:
                with kit.shown(id, is_read=True):  # which no link or file can be
                    pass


@GROUP.case(Need.SOCKET)
def headers_that_claim_gigabytes(kit: Kit) -> None:
    """Names and PAX headers of gigabytes, and negative sizes, are rejected; the plugin survives.

    A header that claims gigabytes, for example for a name, exhausts the machine's memory before any
    of it is checked.
    """
    for type in (b"L", b"K", b"x", b"g"):
        for size in (8 << 30, (1 << 62), -512):
            id = kit.layer()
            header = tars.header(b"././@LongLink", type, size=size, magic=tars.GNU)
            with kit.subject.wire() as daemon:
                daemon.send(
                    wire.apply_head(id), *wire.chunks(header + bytes(4096)), wire.LAST_CHUNK
                )
                if not daemon.answer().rejection:
                    what = f"a header of type {type.decode()} that claims {size} bytes"
                    raise Mismatch(what, "success", "an error")
    expect("Exists after that", kit.driver.exists(id), True)


@GROUP.case()
def damaged_tars(kit: Kit) -> None:
    """A tar with a wrong checksum, a tar that ends within a file, and other data are rejected.

    A damaged tar that the plugin accepts becomes an image with files missing.
    """
    good = tars.file(b"good", b"x" * 5000)
    wrong = bytearray(tars.file(b"wrong", b"x"))
    wrong[148:156] = struct.pack("8s", b"000000\0 ")
    for what, data in (
        ("a header with a wrong checksum", good + bytes(wrong) + tars.END),
        ("a tar that ends within a file", good[:2048]),
        ("a tar that ends within a header", good + good[:100]),
        ("data that is not a tar", b"no tar at all " * 1000),
    ):
        id = kit.layer()
        with rejected(f"ApplyDiff of {what}"):
            kit.driver.apply_diff(id, "", io.BytesIO(data))
