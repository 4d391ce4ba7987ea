"""A tree as a tar: the same bytes each time, and what other programs read in them."""

from __future__ import annotations

import io
import os
import random
import socket
import stat
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdriver.conformance.kit.tree import build, record
from graphdriver.driver import Change, ChangeKind, IDMap
from graphdriver.errors import BrokenStreamError, GraphDriverError, UnsupportedError
from graphdriver.layer.change_list import ChangeList
from graphdriver.layer.changes import compare
from graphdriver.layer.pack import pack
from graphdriver.layer.tar.entry import Entry, EntryType
from graphdriver.layer.tar.writer import END, file_headers, headers
from graphdriver.layer.unpack import Unpacked, unpack
from tests.layer.listed import change_list
from tests.layer.test_unpack import acl_of, of_root
from tests.support.filesystems import loop

FOLDER = os.O_RDONLY | os.O_DIRECTORY


def packed(
    root: Path | str,
    listed: ChangeList | None = None,
    maps: Sequence[IDMap] = (),
    step: int = 100_000,
) -> bytes:
    fd = os.open(root, FOLDER)
    stream = pack(fd, listed, uid_maps=maps, gid_maps=maps)
    os.close(fd)  # the stream holds the tree itself
    try:
        pieces = []
        while piece := stream.read(step):
            assert len(piece) <= step
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        stream.close()


def unpacked(data: bytes, root: Path | str) -> None:
    fd = os.open(root, FOLDER)
    try:
        unpack(io.BytesIO(data), fd)
    finally:
        os.close(fd)


def changed(upper: Path | str, lower: Path | str) -> ChangeList:
    upper_fd, lower_fd = os.open(upper, FOLDER), os.open(lower, FOLDER)
    try:
        return ChangeList(compare(upper_fd, lower_fd))
    finally:
        os.close(upper_fd)
        os.close(lower_fd)


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar}


@pytest.fixture
def quick() -> Iterator[Path]:
    """A folder on tmpfs."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


def test_a_tree_with_everything_in_it_comes_back_the_same(tmp_path: Path, quick: Path) -> None:
    build(str(tmp_path))
    unpacked(packed(tmp_path), quick)
    there, back = record(str(tmp_path)), record(str(quick))
    assert there.keys() == back.keys()
    assert {path: back[path] for path in back} == there


def test_the_same_tree_gives_the_same_bytes_on_any_filesystem(tmp_path: Path, place: Path) -> None:
    build(str(tmp_path))
    first = packed(tmp_path)
    unpacked(first, place)
    assert packed(place) == first
    assert packed(tmp_path, step=7) == first


def grow_in_order(root: Path, order: random.Random) -> None:
    """Make one and the same tree, what comes first being left to chance."""

    def in_turn(todo: list[Callable[[], object]]) -> None:
        order.shuffle(todo)
        for do in todo:
            do()

    names = [root / f"d{n % 7}" / f"f{n}" for n in range(60)]
    in_turn([partial(path.parent.mkdir, exist_ok=True) for path in names])
    first, *others = order.sample([root / "d1" / f"name{n}" for n in range(5)], 5)
    first.write_text("many names")
    in_turn(
        [
            *(partial(path.write_text, path.name) for path in names),
            *(partial(path.hardlink_to, first) for path in others),
            *(partial((root / "d2" / f"l{n}").symlink_to, f"../{n}") for n in range(9)),
            *(partial(os.mkfifo, root / "d3" / f"p{n}") for n in range(9)),
            # What is made and removed leaves holes in a folder, and other inode numbers.
            *(partial(make_and_remove, root / "d1" / f"gone{n}") for n in range(30)),
        ]
    )
    marks = [f"trusted.{letter}" for letter in "abcdefgh"]
    in_turn([partial(os.setxattr, path, mark, b"1") for path in names[:9] for mark in marks])
    for path in (root, *root.rglob("*")):
        os.utime(path, ns=(order.randrange(10**18), 1_000_000_001), follow_symlinks=False)


def make_and_remove(path: Path) -> None:
    path.write_bytes(bytes(5000))
    path.unlink()


def test_the_order_of_building_leaves_no_trace(
    place: Path, seen_elsewhere: dict[str, bytes]
) -> None:
    for seed in range(3):
        root = place / str(seed)
        root.mkdir()
        grow_in_order(root, random.Random(seed))
        data = packed(root)
        assert seen_elsewhere.setdefault("data", data) == data


@pytest.fixture(scope="module")
def seen_elsewhere() -> dict[str, bytes]:
    """What was packed on another filesystem."""
    return {}


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_other_programs_read_the_same_names(tmp_path: Path, program: str) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "d" / ("x" * 200)).write_bytes(b"long")
    (root / "link").symlink_to("d/" + "y" * 150)
    os.link(root / "d" / ("x" * 200), root / "z-hard")
    os.utime(root / "d", ns=(0, -1_500_000_000))
    (tmp_path / "a.tar").write_bytes(packed(root))
    run = subprocess.run(
        [program, "-tf", str(tmp_path / "a.tar")], capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    names = [line.removeprefix("./").rstrip("/") for line in run.stdout.splitlines()]
    assert names == ["", "d", "d/" + "x" * 200, "link", "z-hard"]


@pytest.mark.parametrize(
    ("program", "wrong"),
    [
        (["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"], set()),
        # libarchive takes the fraction of a time before 1970 for one that goes forward.
        (["bsdtar", "--xattrs", "--numeric-owner", "-xpf"], {b"etc/empty"}),
    ],
    ids=["GNU tar", "bsdtar"],
)
def test_other_programs_unpack_the_same_tree(
    tmp_path: Path, program: list[str], wrong: set[bytes]
) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    build(str(root))
    (tmp_path / "a.tar").write_bytes(packed(root))
    subprocess.run([*program, str(tmp_path / "a.tar")], cwd=other, capture_output=True, check=True)
    there, back = record(str(root)), record(str(other))
    assert there.keys() == back.keys()
    assert {path for path in there if there[path] != back[path]} == wrong


def test_pythons_tarfile_reads_the_same_entries(tmp_path: Path) -> None:
    build(str(tmp_path))
    found = members(packed(tmp_path))
    there = [os.fsdecode(path) for path in record(str(tmp_path))]
    assert sorted(found) == sorted([".", *there])
    for name in there:
        if not found[name].islnk():
            disk = os.lstat(tmp_path / name)
            assert (found[name].mode, found[name].uid) == (disk.st_mode & 0o7777, disk.st_uid)
            assert found[name].size == (disk.st_size if stat.S_ISREG(disk.st_mode) else 0)


def test_a_file_capability_leaves_as_the_containers(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    for path in (tmp_path, tmp_path / "f"):
        os.chown(path, 100000, 100000)
    version_3 = struct.pack("<IIIIII", 0x03000001, 1 << 10, 0, 0, 0, 100000)
    os.setxattr(tmp_path / "f", "security.capability", version_3)
    version_2 = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    data = packed(tmp_path, maps=[IDMap(0, 100000, 65536)])
    assert b"SCHILY.xattr.security.capability=" + version_2 + b"\n" in data
    assert version_3 + b"\n" in packed(tmp_path)


def test_a_file_with_two_names_is_stored_once_under_the_first(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(bytes(3000))
    os.link(tmp_path / "b", tmp_path / "a")
    found = members(packed(tmp_path))
    assert found["a"].isreg()
    assert (found["b"].islnk(), found["b"].linkname) == (True, "a")


def test_a_link_to_what_did_not_change_is_stored_whole(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"12345")
    os.link(tmp_path / "old", tmp_path / "new")
    found = members(packed(tmp_path, change_list([Change("/new", ChangeKind.ADDED)])))
    assert found["new"].isreg()
    assert found["new"].size == 5


def test_a_deletion_is_a_whiteout_with_a_fixed_time(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    listed = [Change("/d", ChangeKind.MODIFIED), Change("/d/gone", ChangeKind.DELETED)]
    found = members(packed(tmp_path, change_list(listed)))
    assert list(found) == ["d", "d/.wh.gone"]
    assert (found["d/.wh.gone"].size, found["d/.wh.gone"].mtime) == (0, 0)


def test_a_file_that_is_called_like_a_whiteout_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / ".wh.x").touch()
    with pytest.raises(UnsupportedError, match=r"'\.wh\.x' is called like a whiteout"):
        packed(tmp_path)


def test_a_whiteout_may_be_for_the_longest_name_of_all(tmp_path: Path) -> None:
    name = "n" * 255
    data = packed(tmp_path, change_list([Change(f"/{name}", ChangeKind.DELETED)]))
    assert list(members(data)) == [f".wh.{name}"]
    (tmp_path / name).touch()
    unpacked(data, tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_a_filesystem_keeps_of_a_file_for_itself_never_leaves(tmp_path: Path) -> None:
    with loop("btrfs", tmp_path) as place:
        (place / "f").touch()
        os.setxattr(place / "f", "btrfs.compression", b"zstd")
        assert os.listxattr(place / "f") == ["btrfs.compression"]
        assert b"compression" not in packed(place)
        (place / "lower").mkdir()
        (place / "upper").mkdir()
        for folder in ("lower", "upper"):
            (place / folder / "f").touch()
            os.utime(place / folder / "f", (1, 1))
        os.setxattr(place / "upper" / "f", "btrfs.compression", b"zstd")
        assert list(changed(place / "upper", place / "lower")) == []


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_other_programs_read_names_of_any_bytes_and_length(tmp_path: Path, program: str) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    names = (b"\xff\xfe" * 60, b"new\nline" + b"\n" * 120, b"7 a=b\n" * 30, "\u00e9".encode() * 99)
    for folder in (root, other):
        folder.mkdir()
    for name in names:
        with open(os.path.join(os.fsencode(root), name), "wb") as file:
            file.write(name)
        os.symlink(name, os.path.join(os.fsencode(root), b"l" + name[:9]))
    (tmp_path / "a.tar").write_bytes(packed(root))
    extract = [program, "-xf", str(tmp_path / "a.tar")]
    subprocess.run(extract, cwd=other, capture_output=True, check=True)
    assert sorted(os.listdir(os.fsencode(other))) == sorted(
        [*names, *[b"l" + n[:9] for n in names]]
    )
    for name in names:
        assert os.readlink(os.path.join(os.fsencode(other), b"l" + name[:9])) == name


def test_a_socket_is_left_out_with_a_warning(quick: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.bind(str(quick / "s"))
        assert list(members(packed(quick))) == ["."]
    assert "b's' is a socket" in caplog.text


def test_orders_to_overlayfs_never_leave(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.setxattr(tmp_path / "d", "trusted.overlay.opaque", b"y")
    os.setxattr(tmp_path / "d", "user.mine", b"\0\xff")
    data = packed(tmp_path)
    assert b"overlay" not in data
    assert b"SCHILY.xattr.user.mine=\0\xff\n" in data


MAPS = [IDMap(0, 100000, 1000), IDMap(1000, 300000, 10)]


def test_owners_are_mapped_back_by_the_range_that_holds_each(tmp_path: Path) -> None:
    os.chown(tmp_path, 100000, 100000)
    (tmp_path / "f").touch()
    os.chown(tmp_path / "f", 300009, 100005)
    found = members(packed(tmp_path, maps=MAPS))["f"]
    assert (found.uid, found.gid) == (1009, 5)


@pytest.mark.parametrize(
    ("owner", "attributes"),
    [
        ((5, 100000), {}),
        ((100000, 5), {}),
        ((100000, 100000), {"security.capability": of_root(5)}),
        ((100000, 100000), {"system.posix_acl_access": acl_of(5, 100000)}),
        ((100000, 100000), {"system.posix_acl_access": acl_of(100000, 5)}),
    ],
    ids=["user", "group", "capability", "user in an ACL", "group in an ACL"],
)
def test_an_id_on_disk_outside_the_maps_is_an_error_that_names_entry_and_id(
    tmp_path: Path, owner: tuple[int, int], attributes: dict[str, bytes]
) -> None:
    (tmp_path / "f").touch()
    os.chown(tmp_path, 100000, 100000)
    os.chown(tmp_path / "f", *owner)
    for name, value in attributes.items():
        os.setxattr(tmp_path / "f", name, value)
    with pytest.raises(GraphDriverError, match=r"'f': id 5 on disk is outside"):
        packed(tmp_path, maps=MAPS)


def test_an_acl_leaves_as_the_containers(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    for path in (tmp_path, tmp_path / "f"):
        os.chown(path, 100000, 100000)
    os.setxattr(tmp_path / "f", "system.posix_acl_access", acl_of(100007, 300008))
    assert acl_of(7, 1008) in packed(tmp_path, maps=MAPS)
    assert acl_of(100007, 300008) in packed(tmp_path)


def test_a_file_that_shrinks_breaks_the_stream_and_one_that_grows_is_cut(tmp_path: Path) -> None:
    big = tmp_path / "f"
    for size, then in ((4 << 20, 1 << 20), (1 << 20, 4 << 20)):
        big.write_bytes(b"x" * size)
        fd = os.open(tmp_path, FOLDER)
        stream = pack(fd, None)
        os.close(fd)
        data = stream.read(1 << 19)
        os.truncate(big, then)
        try:
            if then < size:
                with pytest.raises(BrokenStreamError, match="'f': shrank"):
                    while piece := stream.read(1 << 20):
                        data += piece
            else:
                while piece := stream.read(1 << 20):
                    data += piece
                assert members(data)["f"].size == size
        finally:
            stream.close()


@pytest.mark.parametrize("only_changes", [False, True])
def test_a_stream_counts_what_it_brings_to_an_empty_tree(
    tmp_path: Path, quick: Path, only_changes: bool
) -> None:
    build(str(tmp_path))
    listed = [Change("/" + os.fsdecode(p), ChangeKind.ADDED) for p in record(str(tmp_path))]
    listed += [Change("/etc/gone", ChangeKind.DELETED), Change("/gone", ChangeKind.DELETED)]
    fd = os.open(tmp_path, FOLDER)
    stream = pack(fd, change_list(listed) if only_changes else None)
    os.close(fd)
    data = b"".join(iter(lambda: stream.read(100_000), b""))
    stream.close()
    root = os.open(quick, FOLDER)
    assert unpack(io.BytesIO(data), root) == Unpacked(
        stream.size, stream.inodes, describes_root=not only_changes
    )
    os.close(root)
    assert stream.size > 1_000_000
    assert stream.inodes == len(
        {os.lstat(quick / os.fsdecode(p)).st_ino for p in record(str(quick))}
    )


def test_holes_are_packed_as_zeros(tmp_path: Path) -> None:
    with open(tmp_path / "f", "wb") as file:
        file.truncate(3 << 20)
    data = packed(tmp_path)
    assert b"GNU.sparse" not in data
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getmember("f").size == 3 << 20
        assert not archive.getmember("f").sparse


def test_no_tree_means_two_blocks_of_zeros(tmp_path: Path) -> None:
    assert packed(tmp_path, change_list([])) == END


# --- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "blocks"),
    [
        (Entry(b"a" * 100, EntryType.FILE), 1),
        (Entry(b"a" * 101, EntryType.FILE), 3),
        (Entry(b"d" * 155 + b"/" + b"a" * 100, EntryType.FILE), 1),
        (Entry(b"d" * 156 + b"/" + b"a" * 100, EntryType.FILE), 3),
        (Entry(b"a", EntryType.FILE, uid=2097151), 1),
        (Entry(b"a", EntryType.FILE, uid=2097152), 3),
        (Entry(b"a", EntryType.FILE, mtime_ns=1_000_000_000), 1),
        (Entry(b"a", EntryType.FILE, mtime_ns=1), 3),
        (Entry(b"a", EntryType.FILE, mtime_ns=-1), 3),
        (Entry(b"a", EntryType.SYMLINK, link=b"l" * 100), 1),
        (Entry(b"a", EntryType.SYMLINK, link=b"l" * 101), 3),
        (Entry(b"a", EntryType.FILE, stored=8**11 - 1), 1),
        (Entry(b"a", EntryType.FILE, stored=8**11), 3),
    ],
)
def test_the_smallest_form_that_holds_an_entry_is_used(entry: Entry, blocks: int) -> None:
    assert len(headers(entry)) == blocks * 512
    if entry.type is EntryType.FILE:
        entry.size = entry.stored
        owner = entry.uid, entry.gid
        plain = file_headers(entry.name, entry.mode, *owner, entry.size, entry.mtime_ns)
        assert plain == headers(entry)


@settings(max_examples=300)
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    st.integers(0, 0o7777),
    st.integers(0, 2**32 - 2),
    st.integers(0, 2**40),
    st.integers(-(2**40), 2**40),
    st.dictionaries(st.from_regex(r"user\.[a-z]{1,9}", fullmatch=True), st.text(), max_size=3),
)
def test_pythons_tarfile_reads_every_header(
    name: str, mode: int, uid: int, size: int, seconds: int, attributes: dict[str, str]
) -> None:
    name = "n/" + name.strip("/") + "e"
    written = headers(
        Entry(
            name.encode(),
            EntryType.FILE,
            mode=mode,
            uid=uid,
            stored=size,
            mtime_ns=seconds * 1_000_000_000 + 500_000_000,
            xattrs={key.encode(): value.encode() for key, value in attributes.items()},
        )
    )
    assert len(written) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(written + END)) as tar:
        found = tar.next()
    assert found is not None
    assert (found.name, found.mode, found.uid, found.size) == (name, mode, uid, size)
    assert found.mtime == seconds + 0.5
    for key, value in attributes.items():
        assert found.pax_headers[f"SCHILY.xattr.{key}"] == value


# --- a whole way round ----------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "é", "x" * 120])
LEAF = st.tuples(st.sampled_from(["file", "link", "fifo", "device"]), st.binary(max_size=600))
TREES = st.recursive(LEAF, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12)
ROOTS = st.dictionaries(NAMES, TREES, max_size=4)


def grow(root: Path, tree: dict[str, object], stamp: int) -> None:
    for name, node in tree.items():
        at = root / name
        if isinstance(node, dict):
            at.mkdir()
            grow(at, node, stamp)
            continue
        assert isinstance(node, tuple)
        kind, data = node
        if kind == "file":
            at.write_bytes(data)
            at.chmod(0o4755 if len(data) % 2 else 0o600)
        elif kind == "link":
            at.symlink_to("t" + data.hex()[:140])
        elif kind == "fifo":
            os.mkfifo(at)
        else:
            os.mknod(at, stat.S_IFBLK | 0o600, os.makedev(7, len(data)))
        os.utime(at, ns=(stamp, stamp + len(data)), follow_symlinks=False)


@settings(max_examples=300)
@given(ROOTS, ROOTS)
def test_what_changed_packed_and_unpacked_upon_the_parent_is_the_child(
    before: dict[str, object], after: dict[str, object]
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        for side in ("parent", "child", "again"):
            (folder / side).mkdir()
        grow(folder / "parent", before, 1_000)
        grow(folder / "child", after, 5_000)
        unpacked(packed(folder / "parent"), folder / "again")
        assert record(str(folder / "again")) == record(str(folder / "parent"))
        listed = changed(folder / "child", folder / "parent")
        unpacked(packed(folder / "child", listed), folder / "again")
        # A folder's time alone is no change.
        assert list(changed(folder / "child", folder / "again")) == []
