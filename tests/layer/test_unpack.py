from __future__ import annotations

import os
import stat
import struct
import threading
from typing import Any

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.driver import IDMap
from graphdriver.errors import (
    BadArchiveError,
    BrokenStreamError,
    GraphDriverError,
    UnsupportedError,
)
from graphdriver.layer.tree.directory import Dir
from graphdriver.layer.unpack import Unpacked, unpack
from tests.layer.conftest import Layer
from tests.support.pieces import Pieces

MAPS = (IDMap(0, 100000, 1000), IDMap(1000, 300000, 10))
CAPABILITY_2 = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
CAPABILITY_3 = struct.pack("<IIIIII", 0x03000001, 1 << 13, 0, 0, 0, 100000)


class Broken:
    """A stream that breaks off after what it has."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, n: int, /) -> bytes:
        if not self.data:
            raise BrokenStreamError("the sender is gone")
        piece, self.data = self.data[:n], self.data[n:]
        return piece


class Trickle:
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, n: int, /) -> bytes:
        piece, self.data = self.data[:7], self.data[7:]
        return piece


def test_every_type_arrives_with_owner_mode_and_time(layer: Layer) -> None:
    fields = {"uid": 7, "gid": 8, "mtime": 1234567890}
    unpacked = layer.unpack(
        tars.tar(
            tars.directory(b"d/", 0o3751, **fields),
            tars.file(b"d/f", b"content", mode=0o6755, **fields),
            tars.symlink(b"d/s", b"nowhere", **fields),
            tars.header(b"d/p", b"6", mode=0o620, **fields),  # type: ignore[arg-type]
            tars.header(b"d/c", b"3", mode=0o666, device=(1, 3), **fields),  # type: ignore[arg-type]
            tars.header(b"d/b", b"4", mode=0o660, device=(259, 70000), **fields),  # type: ignore[arg-type]
            tars.hard_link(b"d/h", b"d/f"),
        )
    )
    assert unpacked == Unpacked(size=7, inodes=6, describes_root=False)
    assert layer.read("d/f") == b"content"
    assert os.readlink(layer.path("d/s")) == b"nowhere"
    modes = {
        "d": stat.S_IFDIR | 0o3751,
        "d/f": stat.S_IFREG | 0o6755,
        "d/s": stat.S_IFLNK | 0o777,
        "d/p": stat.S_IFIFO | 0o620,
        "d/c": stat.S_IFCHR | 0o666,
        "d/b": stat.S_IFBLK | 0o660,
    }
    for name, mode in modes.items():
        found = layer.stat(name)
        assert (name, oct(found.st_mode)) == (name, oct(mode))
        assert (found.st_uid, found.st_gid) == (7, 8)
        assert found.st_mtime_ns == 1234567890_000_000_000
    assert layer.stat("d/c").st_rdev == os.makedev(1, 3)
    assert layer.stat("d/b").st_rdev == os.makedev(259, 70000)
    assert layer.stat("d/h").st_ino == layer.stat("d/f").st_ino


@pytest.mark.parametrize("data", [b"", bytes(512), bytes(1024), bytes(10240)])
def test_a_stream_of_nothing_or_of_zeros_is_an_empty_layer(layer: Layer, data: bytes) -> None:
    assert layer.unpack(data) == Unpacked(0, 0, describes_root=False)
    assert layer.names() == []


def test_a_missing_trailer_and_junk_behind_one_do_no_harm(layer: Layer) -> None:
    layer.unpack(tars.file(b"a"))
    layer.unpack(tars.tar(tars.file(b"b")) + b"junk" * 100_000 + tars.file(b"c"))
    assert layer.names() == [b"a", b"b"]


@pytest.mark.parametrize("keep", [1, 511, 513, 1023, 1024 + 511])
def test_a_tar_that_ends_in_mid_entry_is_an_error(layer: Layer, keep: int) -> None:
    data = tars.file(b"first", b"1" * 600) + tars.file(b"second")
    with pytest.raises(BadArchiveError, match="ends in the middle"):
        layer.unpack(data[:keep])


def test_a_stream_that_breaks_off_is_not_taken_for_its_end(layer: Layer) -> None:
    fd = os.open(layer.root, os.O_RDONLY)
    with pytest.raises(BrokenStreamError):
        unpack(Broken(tars.file(b"a")), fd)
    os.close(fd)


def test_a_stream_may_come_in_small_pieces(layer: Layer) -> None:
    fd = os.open(layer.root, os.O_RDONLY)
    unpack(Trickle(tars.tar(tars.file(b"a", b"x" * 5000), tars.file(b"b"))), fd)
    os.close(fd)
    assert layer.read("a") == b"x" * 5000
    assert layer.names() == [b"a", b"b"]


def test_missing_parents_are_made_for_root_to_enter(layer: Layer) -> None:
    layer.unpack(tars.tar(tars.file(b"a/b/c", uid=5)))
    for name in ("a", "a/b"):
        found = layer.stat(name)
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o755, 0, 0)


def test_a_parent_that_comes_later_describes_the_folder_and_its_time_stays(layer: Layer) -> None:
    layer.unpack(
        tars.tar(tars.file(b"a/b"), tars.directory(b"a", 0o700, mtime=1000), tars.file(b"a/c"))
    )
    found = layer.stat("a")
    assert (found.st_mode & 0o7777, found.st_mtime) == (0o700, 1000)
    assert layer.names() == [b"a", b"a/b", b"a/c"]


def test_a_folder_of_the_parent_keeps_its_time_when_something_is_put_in(layer: Layer) -> None:
    (layer.root / "etc").mkdir()
    os.utime(layer.root / "etc", (1, 1))
    os.utime(layer.root, (2, 2))
    layer.unpack(tars.tar(tars.file(b"etc/new"), tars.file(b"etc/deep/er/file"), tars.file(b"f")))
    assert layer.stat("etc").st_mtime == 1
    assert layer.stat("").st_mtime == 2


def test_the_later_of_two_entries_wins(layer: Layer) -> None:
    layer.unpack(
        tars.tar(
            tars.file(b"x", b"long first"),
            tars.file(b"x", b"2nd"),
            tars.directory(b"d"),
            tars.file(b"d/child"),
            tars.directory(b"d", 0o700),
            tars.symlink(b"was_link", b"x"),
            tars.file(b"was_link", b"now file"),
        )
    )
    assert layer.read("x") == b"2nd"
    assert layer.names() == [b"d", b"d/child", b"was_link", b"x"]
    assert layer.stat("d").st_mode & 0o7777 == 0o700
    assert layer.read("was_link") == b"now file"


def test_a_file_replaces_a_folder_and_a_folder_a_file(layer: Layer) -> None:
    (layer.root / "folder" / "deep").mkdir(parents=True)
    (layer.root / "file").write_bytes(b"old")
    layer.unpack(
        tars.tar(tars.file(b"folder", b"new"), tars.directory(b"file"), tars.file(b"file/f"))
    )
    assert layer.names() == [b"file", b"file/f", b"folder"]
    assert layer.read("folder") == b"new"


def test_what_a_lower_layer_has_in_a_missing_parents_place_goes(layer: Layer) -> None:
    (layer.root / "a").write_bytes(b"a file below")
    layer.unpack(tars.tar(tars.file(b"a/b")))
    assert layer.names() == [b"a", b"a/b"]


def test_an_entry_below_a_file_of_the_same_tar_is_an_error(layer: Layer) -> None:
    with pytest.raises(BadArchiveError, match=r"'a/b'.*not a directory"):
        layer.unpack(tars.tar(tars.file(b"a"), tars.file(b"a/b")))


def test_a_replaced_file_is_a_new_file_and_not_written_over(layer: Layer) -> None:
    (layer.root / "old").write_bytes(b"old")
    os.link(layer.root / "old", layer.root / "other name")
    layer.unpack(tars.tar(tars.file(b"old", b"new")))
    assert layer.read("other name") == b"old"


def test_a_folder_over_a_folder_loses_the_attributes_it_does_not_have(layer: Layer) -> None:
    (layer.root / "d").mkdir()
    os.setxattr(layer.root / "d", "user.old", b"1")
    layer.unpack(tars.tar(tars.pax([(b"SCHILY.xattr.user.new", b"2\n\0")]), tars.directory(b"d")))
    assert os.listxattr(layer.path("d")) == ["user.new"]
    assert os.getxattr(layer.path("d"), "user.new") == b"2\n\0"


@pytest.mark.parametrize("name", [b".", b"./", b"/", b"//", b"./.", b"a/.."])
def test_the_root_entry_describes_the_root_however_it_is_spelt(layer: Layer, name: bytes) -> None:
    layer.unpack(tars.tar(tars.file(b"f"), tars.directory(name, 0o711, uid=3, mtime=77)))
    found = layer.stat("")
    assert (found.st_mode & 0o7777, found.st_uid, found.st_mtime) == (0o711, 3, 77)


@pytest.mark.parametrize("name", [b"./a//b/../c", b"/a/c", b"a/./c"])
def test_names_are_cleaned_by_their_letters(layer: Layer, name: bytes) -> None:
    layer.unpack(tars.tar(tars.file(name)))
    assert layer.names() == [b"a", b"a/c"]


def test_names_are_bytes(layer: Layer) -> None:
    names = [b"\xff\xfe", b"new\nline", "h\u00e9".encode(), b" "]
    layer.unpack(tars.tar(*[tars.file(name) for name in names]))
    assert layer.names() == sorted(names)


def test_a_deep_name_without_any_parents_is_made_and_found_again(layer: Layer) -> None:
    path = b"/".join([b"some-folder"] * 1500)
    layer.unpack(
        tars.tar(
            tars.gnu_long(b"L", path + b"/one"),
            tars.file(b"", b"1"),
            tars.file(b"elsewhere"),
            tars.gnu_long(b"L", path + b"/two"),
            tars.file(b"", b"2"),
            tars.gnu_long(b"K", path + b"/two"),
            tars.hard_link(b"three", b""),
        )
    )
    assert layer.read("three") == b"2"
    assert layer.names()[-3:] == [path + b"/one", path + b"/two", b"three"]


def test_parents_that_are_links_are_followed_inside_the_layer(layer: Layer) -> None:
    (layer.root / "usr" / "lib").mkdir(parents=True)
    (layer.root / "lib").symlink_to("/usr/lib")
    (layer.root / "up").symlink_to("../../../../usr")
    layer.unpack(tars.tar(tars.file(b"lib/a"), tars.file(b"up/lib/b"), tars.file(b"up/new/c")))
    assert [n for n in layer.names() if n.startswith(b"usr/")] == [
        b"usr/lib",
        b"usr/lib/a",
        b"usr/lib/b",
        b"usr/new",
        b"usr/new/c",
    ]


def test_a_link_to_nowhere_on_the_way_leads_to_folders_made_inside(layer: Layer) -> None:
    layer.unpack(tars.tar(tars.symlink(b"l", b"/some/where"), tars.file(b"l/f")))
    assert layer.names() == [b"l", b"some", b"some/where", b"some/where/f"]


def test_a_link_that_leads_to_itself_is_an_error(layer: Layer) -> None:
    with pytest.raises(BadArchiveError, match="'l/f'"):
        layer.unpack(tars.tar(tars.symlink(b"l", b"l"), tars.file(b"l/f")))


def test_owners_are_mapped_and_made_parents_belong_to_the_mapped_root(layer: Layer) -> None:
    layer.unpack(
        tars.tar(tars.file(b"d/f", uid=5, gid=1003), tars.symlink(b"s", b"x", uid=0)),
        uid_maps=MAPS,
        gid_maps=MAPS,
    )
    assert (layer.stat("d/f").st_uid, layer.stat("d/f").st_gid) == (100005, 300003)
    assert (layer.stat("d").st_uid, layer.stat("d").st_gid) == (100000, 100000)
    assert layer.stat("s").st_uid == 100000


def of_root(id: int) -> bytes:
    """A file capability of another root than the container's own."""
    return struct.pack("<IIIIII", 0x03000001, 1 << 13, 0, 0, 0, id)


def acl_of(user: int, group: int) -> bytes:
    nobody = 0xFFFFFFFF
    entries = (1, 6, nobody), (2, 6, user), (4, 4, nobody), (8, 4, group), (16, 6, nobody)
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *entry) for entry in (*entries, (32, 4, nobody))
    )


@pytest.mark.parametrize(
    ("fields", "attributes"),
    [
        ({"uid": 5000}, {}),
        ({"gid": 5000}, {}),
        ({}, {"security.capability": of_root(5000)}),
        ({}, {"system.posix_acl_access": acl_of(5000, 0)}),
        ({}, {"system.posix_acl_access": acl_of(0, 5000)}),
    ],
    ids=["user", "group", "capability", "user in an ACL", "group in an ACL"],
)
def test_an_id_outside_the_maps_is_an_error_that_names_entry_and_id(
    layer: Layer, fields: dict[str, Any], attributes: dict[str, bytes]
) -> None:
    told = [(f"SCHILY.xattr.{name}".encode(), value) for name, value in attributes.items()]
    header = [tars.pax(told)] if told else []
    with pytest.raises(GraphDriverError, match=r"'f': id 5000 is outside"):
        layer.unpack(tars.tar(*header, tars.file(b"f", **fields)), uid_maps=MAPS, gid_maps=MAPS)


def test_every_file_gets_its_owner_whatever_its_folder_gives_new_ones(layer: Layer) -> None:
    owners = [(0, 0), (0, 7), (5, 0), (5, 7), (0, 0), (0, 7)]
    for mode in (0o755, 0o2755):
        layer.unpack(
            tars.tar(
                tars.directory(b"d", mode, gid=7),
                *(
                    tars.file(b"d/f%d" % at, uid=uid, gid=gid)
                    for at, (uid, gid) in enumerate(owners)
                ),
            )
        )
        found = [layer.stat(f"d/f{at}") for at in range(len(owners))]
        assert [(one.st_uid, one.st_gid) for one in found] == owners


def test_an_acl_is_kept_and_with_maps_it_names_the_containers_users(layer: Layer) -> None:
    told = [(b"SCHILY.xattr.system.posix_acl_access", acl_of(7, 1008))]
    entries = tars.tar(tars.pax(told), tars.file(b"f", mode=0o664))
    layer.unpack(entries)
    assert os.getxattr(layer.path("f"), "system.posix_acl_access") == acl_of(7, 1008)
    layer.unpack(entries, uid_maps=MAPS, gid_maps=MAPS)
    assert os.getxattr(layer.path("f"), "system.posix_acl_access") == acl_of(100007, 300008)
    assert layer.stat("f").st_mode & 0o7777 == 0o664


def test_a_file_capability_is_kept_and_with_maps_it_is_the_containers(layer: Layer) -> None:
    entries = tars.tar(
        tars.pax([(b"SCHILY.xattr.security.capability", CAPABILITY_2)]), tars.file(b"ping", uid=9)
    )
    layer.unpack(entries)
    assert os.getxattr(layer.path("ping"), "security.capability") == CAPABILITY_2
    layer.unpack(entries, uid_maps=MAPS)
    assert os.getxattr(layer.path("ping"), "security.capability") == CAPABILITY_3


def test_links_keep_trusted_attributes(layer: Layer) -> None:
    layer.unpack(
        tars.tar(tars.pax([(b"SCHILY.xattr.trusted.x", b"1")]), tars.symlink(b"s", b"nowhere"))
    )
    assert os.getxattr(layer.path("s"), "trusted.x", follow_symlinks=False) == b"1"


def test_what_the_filesystem_cannot_keep_is_an_error_with_entry_and_reason(layer: Layer) -> None:
    with pytest.raises(UnsupportedError, match="too long"):
        layer.unpack(tars.tar(tars.gnu_long(b"L", b"n" * 256), tars.file(b"")))


def test_a_folders_default_acl_is_not_passed_on_to_what_the_tar_puts_in(layer: Layer) -> None:
    (layer.root / "d").mkdir()
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, permissions, id)
        for tag, permissions, id in (
            (1, 7, 0xFFFFFFFF),
            (2, 7, 1234),
            (4, 5, 0xFFFFFFFF),
            (16, 7, 0xFFFFFFFF),
            (32, 5, 0xFFFFFFFF),
        )
    )
    os.setxattr(layer.root / "d", "system.posix_acl_default", acl)
    layer.unpack(
        tars.tar(tars.file(b"d/f", mode=0o640), tars.directory(b"d/e"), tars.header(b"d/p", b"6"))
    )
    for name in ("d/f", "d/e", "d/p"):
        assert os.listxattr(layer.path(name)) == []
    assert layer.stat("d/f").st_mode & 0o7777 == 0o640


def test_no_descriptor_is_left_open_whether_it_ends_well_or_not(layer: Layer) -> None:
    before = os.listdir("/proc/self/fd")
    layer.unpack(tars.tar(tars.file(b"a/b"), tars.hard_link(b"c", b"a/b")))
    with pytest.raises(BadArchiveError):
        layer.unpack(tars.tar(tars.file(b"d/b"), tars.hard_link(b"d/c", b"nowhere")))
    with pytest.raises(BadArchiveError):
        layer.unpack(tars.tar(tars.file(b"x/y"), tars.file(b"x/y/z")))
    assert os.listdir("/proc/self/fd") == before


def test_a_link_that_is_replaced_on_the_very_way_to_it_is_noticed(layer: Layer) -> None:
    layer.unpack(tars.tar(tars.directory(b"d"), tars.symlink(b"d/self", b".")))
    with pytest.raises(BadArchiveError, match=r"'d/self/b'.*not a directory"):
        layer.unpack(
            tars.tar(tars.file(b"d/self/a"), tars.file(b"d/self/self"), tars.file(b"d/self/b"))
        )


def test_two_layers_are_unpacked_at_the_same_time(layer: Layer) -> None:
    roots = [layer.root / str(n) for n in range(4)]
    tar = tars.tar(*[tars.file(b"d%d/f%d" % (n % 7, n), b"%d" % n) for n in range(300)])
    for root in roots:
        root.mkdir()
    threads = [threading.Thread(target=Layer(root).unpack, args=(tar,)) for root in roots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for root in roots:
        assert len(Layer(root).names()) == 307
        assert Layer(root).read("d3/f10") == b"10"


@pytest.mark.parametrize("ends_in_zeros", [True, False])
def test_where_a_tar_is_full_of_zeros_a_file_gets_holes(layer: Layer, ends_in_zeros: bool) -> None:
    content = b"x" * 100_000 + bytes(20 << 20) + b"y" * 100_000 + bytes(20 << 20)
    if not ends_in_zeros:
        content += b"z"
    layer.unpack(tars.tar(tars.file(b"f", content), tars.file(b"after")))
    assert layer.read("f") == content
    assert layer.stat("f").st_blocks * 512 < 5 << 20
    assert layer.read("after") == b"data"


@pytest.mark.parametrize("size", [700, 3000, 5000])
def test_holes_do_not_depend_on_how_a_sender_cuts_its_stream(layer: Layer, size: int) -> None:
    content = b"x" * 100_001 + bytes(20 << 20) + b"y" * 3000 + bytes(2000) + b"z" * 3000
    tar = tars.tar(tars.file(b"f", content))
    with Dir(os.open(layer.root, os.O_RDONLY | os.O_DIRECTORY)) as root:
        unpack(Pieces(tar[at : at + size] for at in range(0, len(tar), size)), root.fd)
    assert layer.read("f") == content
    assert layer.stat("f").st_blocks * 512 < 1 << 20
