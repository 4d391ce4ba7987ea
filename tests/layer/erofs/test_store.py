"""How a layer is stored: its tar, its copied data, its facts, and its failures."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.driver import IDMap
from graphdriver.errors import BrokenStreamError, GraphDriverError
from graphdriver.layer.erofs.copied import CopiedData
from graphdriver.layer.erofs.index import HEAD
from graphdriver.layer.erofs.record import Kind, Record
from graphdriver.layer.erofs.store import (
    NotHeldError,
    index_again,
    index_beside,
    store_layer,
    stored_tar,
)
from tests.layer.erofs.both_ways import BothWays
from tests.support.filesystems import loop
from tests.support.pieces import Pieces

ROOT = tars.directory(b"./", 0o755)
BELOW = tars.tar(
    tars.directory(b"d/", 0o700, uid=7, gid=8, mtime=9),
    tars.file(b"d/f", b"below", mode=0o4750, uid=1, mtime=5),
    tars.file(b"d/empty", b""),
    tars.symlink(b"l", b"/d"),
    tars.header(b"p", b"6", mode=0o600),
)
SHA256_OF_BELOW = hashlib.sha256(b"below").hexdigest()


def nothing_below() -> contextlib.AbstractContextManager[Sequence[int]]:
    return contextlib.nullcontext([])


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDWR | os.O_TMPFILE)
    yield fd
    os.close(fd)


def content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def held(
    data: bytes,
    fd: int,
    uid_maps: tuple[IDMap, ...] = (),
    gid_maps: tuple[IDMap, ...] = (),
) -> Record:
    return store_layer(
        io.BytesIO(data), fd, below=nothing_below, uid_maps=uid_maps, gid_maps=gid_maps
    )


# --- the tar --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", tars.END, tars.file(b"f"), tars.tar(tars.file(b"f")) + b"what follows" * 1000],
    ids=["no bytes", "no entries", "no end", "more behind its end"],
)
def test_the_tar_is_kept_byte_for_byte(file: int, data: bytes) -> None:
    record = held(data, file)
    assert (record.kind, record.tar_offset, record.tar_size) == (Kind.IMAGE, HEAD, len(data))
    assert record.sha256 == hashlib.sha256(data).digest()
    stream = stored_tar(record, os.dup(file))
    assert b"".join(iter(lambda: stream.read(1000), b"")) == data
    stream.close()


def test_an_image_does_not_depend_on_how_the_stream_is_cut(file: int, tmp_path: Path) -> None:
    data = tars.tar(ROOT, tars.file(b"f", b"x" * 5000), tars.hard_link(b"h", b"f"))
    record = held(data, file)
    other = os.open(tmp_path, os.O_RDWR | os.O_TMPFILE)
    cut = Pieces(data[at : at + 7] for at in range(0, len(data), 7))
    assert store_layer(cut, other, below=nothing_below) == record
    assert content(other) == content(file)
    os.close(other)


def test_sizes_and_inodes_are_counted(file: int) -> None:
    record = held(
        tars.tar(
            ROOT,
            tars.file(b"f", b"123"),
            tars.file(b"f", b"4567"),
            tars.hard_link(b"h", b"f"),
            tars.symlink(b"l", b"to"),
            tars.directory(b"d"),
        ),
        file,
    )
    assert (record.size, record.changed_size, record.inodes) == (7, 6, 4)


# --- what it depends on ---------------------------------------------------------------------------


def test_a_tar_that_says_all_asks_for_nothing_below(file: int) -> None:
    def refuse() -> contextlib.AbstractContextManager[Sequence[int]]:
        raise AssertionError("the layers below were opened")

    data = tars.tar(
        ROOT,
        tars.directory(b"d"),
        tars.file(b"d/f"),
        tars.symlink(b"l", b"d"),
        tars.file(b"l/g"),
        tars.hard_link(b"h", b"l/g"),
    )
    record = store_layer(io.BytesIO(data), file, below=refuse)
    assert record.facts == {}


FACTS = {
    "a directory on the way": (tars.file(b"d/g"), {b"d": "40700 7 8 9000000000"}),
    "nothing on the way": (tars.file(b"n/g"), {b"n": "absent"}),
    "a file on the way": (tars.file(b"p/g"), {b"p": "absent"}),
    "a link on the way": (
        tars.file(b"l/g"),
        {b"l": "120777 0 0 0 2 0 2f64", b"d": "40700 7 8 9000000000"},
    ),
    "a whiteout": (tars.whiteout(b".wh.d"), {b"": "directory"}),
    "a whiteout in a directory": (
        tars.directory(b"d") + tars.whiteout(b"d/.wh.f"),
        {b"d": "directory"},
    ),
    "a whiteout in a new directory": (
        tars.directory(b"n") + tars.whiteout(b"n/.wh.f"),
        {b"n": "absent"},
    ),
    "a hard link": (
        tars.hard_link(b"h", b"d/f"),
        {
            b"d": "40700 7 8 9000000000",
            b"d/f": f"104750 1 0 5000000000 5 0 {SHA256_OF_BELOW}",
        },
    ),
    "an opaque directory": (tars.directory(b"d") + tars.whiteout(b"d/.wh..wh..opq"), {}),
    "an opaque root": (tars.whiteout(b".wh..wh..opq") + tars.whiteout(b".wh.d"), {}),
}


@pytest.mark.parametrize("name", FACTS)
def test_what_was_looked_up_below_is_recorded(both: BothWays, name: str) -> None:
    entries, facts = FACTS[name]
    both.apply(BELOW)
    assert both.apply(tars.tar(ROOT, entries)) == "held"
    both.same()
    assert both.records[0].facts == facts


def test_a_root_that_is_not_described_is_as_below(both: BothWays) -> None:
    both.apply(tars.tar(tars.directory(b"./", 0o1751, uid=5, mtime=77)))
    assert both.apply(tars.tar(tars.file(b"f"))) == "held"
    both.same()
    assert both.records[0].facts == {b"": "41751 5 0 77000000000"}


def test_an_opaque_root_ends_the_chain(both: BothWays) -> None:
    both.apply(BELOW)
    both.apply(tars.tar(tars.file(b"d/own"), tars.whiteout(b".wh..wh..opq"), tars.file(b"g")))
    both.same()
    assert both.records[0].root_opaque
    with both.shown() as root:
        assert sorted(os.listdir(root)) == ["d", "g"]
        assert os.listdir(root / "d") == ["own"]


# --- what is copied -------------------------------------------------------------------------------


def copied_size(record: Record, image: Path) -> int:
    """Return how many bytes a file system has beside its tar and its head."""
    found = os.statvfs(image)
    return found.f_blocks * found.f_frsize - HEAD - record.tar_size


def test_data_from_below_are_copied_once_and_without_long_holes(both: BothWays) -> None:
    sparse = tars.pax(
        [
            (b"GNU.sparse.size", b"%d" % (64 << 20)),
            (b"GNU.sparse.numblocks", b"1"),
            (b"GNU.sparse.map", b"%d,5" % (9 << 20)),
        ]
    )
    both.apply(tars.tar(sparse + tars.file(b"big", b"inner")))
    both.apply(tars.tar(tars.hard_link(b"one", b"big"), tars.hard_link(b"two", b"one")))
    both.same()
    assert copied_size(both.records[0], both.images[0]) < 2 << 20


def test_data_that_nothing_leads_to_any_more_are_not_copied(both: BothWays) -> None:
    both.apply(tars.tar(tars.file(b"big", bytes(range(256)) * 4096)))
    both.apply(
        tars.tar(tars.hard_link(b"one", b"big"), tars.whiteout(b".wh.big"), tars.file(b"one"))
    )
    both.same()
    assert copied_size(both.records[0], both.images[0]) < 1 << 20


def sparse(pieces: Sequence[tuple[int, int]], size: int) -> bytes:
    numbers = ",".join(f"{at},{length}" for at, length in pieces)
    records = [
        (b"GNU.sparse.size", b"%d" % size),
        (b"GNU.sparse.numblocks", b"%d" % len(pieces)),
        (b"GNU.sparse.map", numbers.encode()),
    ]
    data = b"".join(bytes([1 + at % 255]) * length for at, length in pieces)
    return tars.pax(records) + tars.file(b"s", data)


@pytest.mark.parametrize(
    ("pieces", "size", "copied"),
    [
        ([(0, 512), (4096, 1024)], 1 << 20, 0),
        ([(0, 512), (4096, 700)], 4796, 0),
        ([(0, 512), (4096, 700)], 1 << 20, 1536),  # what follows in its block is not the file's
        ([(0, 100), (4096, 412)], 8192, 1024),
        ([(1, 1), (3, 1), (600, 1), (5000, 5)], 9000, 1536),
        ([(512 * n, 1) for n in range(2000)], 1 << 21, 512 * 2000),
        ([(4096 * n, 512) for n in range(2000)], 1 << 30, 4096 * 2000),  # else the list has 8 MiB
        ([(0, 300), (300, 300)], 600, 0),
        ([], 1 << 40, 0),
    ],
)
def test_sparse_files_are_in_the_tar_where_they_are_on_the_grid(
    both: BothWays,
    pieces: list[tuple[int, int]],
    size: int,
    copied: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[int] = []
    real = CopiedData.write

    def write(*args: Any) -> int:
        written.append(real(*args))
        return written[-1]

    monkeypatch.setattr(CopiedData, "write", write)
    assert both.apply(tars.tar(sparse(pieces, size))) == "held"
    both.same()
    assert sum(written) == copied


# --- failures -------------------------------------------------------------------------------------

NOT_HELD = {
    "a bad tar": tars.file(b"f") + b"x" * 512,
    "a cut tar": tars.file(b"f", b"x" * 600)[:-512],
    "a name that climbs": tars.file(b"../f"),
    "a file in a file": tars.file(b"f") + tars.file(b"f/g"),
    "a link without a target": tars.hard_link(b"h", b"nowhere"),
    "a link in place of its target": tars.file(b"a/b") + tars.hard_link(b"a", b"a/b"),
    "a link to a directory": tars.directory(b"d") + tars.hard_link(b"h", b"d"),
    "a link to the root": tars.hard_link(b"h", b"."),
    "a root that is none": tars.symlink(b".", b"x"),
    "links in a circle": tars.symlink(b"a", b"b") + tars.symlink(b"b", b"a") + tars.file(b"a/f"),
    "a whiteout on the way": tars.file(b".wh.a/f"),
    "a whiteout without a name": tars.whiteout(b".wh."),
    "a name too long": tars.pax([(b"path", b"n" * 256)]) + tars.file(b"f"),
    "a target too long": tars.pax([(b"linkpath", b"n" * 4096)]) + tars.symlink(b"l", b"x"),
    "a target that is none": tars.symlink(b"l", b""),
    "large attributes": tars.pax([(b"SCHILY.xattr.user.a", b"x" * 3100)]) + tars.file(b"f"),
    "a signature": tars.pax([(b"SCHILY.xattr.security.ima", b"x")]) + tars.file(b"f"),
    "a damaged list": tars.pax([(b"SCHILY.xattr.system.posix_acl_access", b"x")]) + tars.file(b"f"),
    "a far time": tars.pax([(b"mtime", b"99999999999")]) + tars.file(b"f"),
    "a huge hole": sparse([(0, 512)], 1 << 60),
    "little in a large hole": sparse([(1 << 39, 5)], 1 << 40),
}


@pytest.mark.parametrize("name", NOT_HELD)
def test_what_an_image_does_not_hold_is_stored_whole(file: int, name: str) -> None:
    data = tars.file(b"first") + NOT_HELD[name] + tars.tar(tars.file(b"last"))
    with pytest.raises(NotHeldError) as error:
        held(data, file)
    record = error.value.record
    assert (record.kind, record.facts) == (Kind.TREE, {})
    assert content(file) == bytes(HEAD) + data
    stream = stored_tar(record, os.dup(file))
    assert b"".join(iter(lambda: stream.read(1 << 20), b"")) == data
    stream.close()


def test_an_owner_outside_the_maps_is_not_held(file: int) -> None:
    maps = (IDMap(0, 1000, 5),)
    with pytest.raises(NotHeldError, match="id 5 is outside"):
        held(tars.tar(tars.file(b"f", uid=5)), file, uid_maps=maps, gid_maps=maps)


@pytest.mark.parametrize("data", [tars.file(b"f", b"x" * 600), tars.file(b"../f")])
def test_a_stream_that_breaks_off_is_no_layer(file: int, data: bytes) -> None:
    class Broken(io.BytesIO):
        def read(self, n: int | None = -1, /) -> bytes:
            if piece := super().read(n):
                return piece
            raise BrokenStreamError("the sender broke off")

    with pytest.raises(BrokenStreamError, match="broke off"):
        store_layer(Broken(data), file, below=nothing_below)


@pytest.mark.parametrize("size", [2 << 20, 40 << 20], ids=["the tar", "the index"])
def test_a_full_disk_is_an_error_that_says_so(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tars.tar(*(tars.directory(b"%d" % number) for number in range(30_000)))
    with loop("ext4", tmp_path, (12 << 20) + size) as disk:
        fd = os.open(disk, os.O_RDWR | os.O_TMPFILE)
        try:
            if size > len(data):
                free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
                (disk / "full").write_bytes(bytes(free - len(data) - (1 << 20)))
            with pytest.raises(GraphDriverError, match=r"cannot be stored: .*(full|space|bytes)"):
                held(data, fd)
        finally:
            os.close(fd)


def test_an_error_below_is_an_error_and_not_an_absence(file: int) -> None:
    fd = os.open("/", os.O_RDONLY)
    os.close(fd)
    with pytest.raises(GraphDriverError, match="Bad file descriptor"):
        store_layer(
            io.BytesIO(tars.tar(tars.file(b"d/f"))),
            file,
            below=lambda: contextlib.nullcontext([fd]),
        )


# --- real trees -----------------------------------------------------------------------------------


REAL = ("etc", "usr/share/zoneinfo", "var/lib/dpkg")


@pytest.mark.parametrize("dialect", ["gnu", "posix", "ustar"])
def test_a_real_tree_is_shown_as_it_is_unpacked(both: BothWays, dialect: str) -> None:
    where = [name for name in REAL if Path("/", name).is_dir()]
    command = ["tar", "-C", "/", f"--format={dialect}", "--xattrs", "--xattrs-include=*", "-c"]
    done = subprocess.run([*command, *where], stdout=subprocess.PIPE, check=False)
    assert both.apply(done.stdout) == "held"
    both.same()
    assert both.records[0].inodes > 1000


# --- the index of a tar that is stored already -----------------------------------------------------


class Reads:
    """Counts the bytes that are read from files."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._pread = os.pread
        patched.setattr(os, "pread", self.read)

    def read(self, fd: int, n: int, at: int) -> bytes:
        piece = self._pread(fd, n, at)
        self.count += len(piece)
        return piece


def beside(record: Record, image: int, tmp_path: Path) -> tuple[Record, bytes]:
    """Return the record and the bytes of an index of its own for the tar of an image."""
    fd = os.open(tmp_path, os.O_RDWR | os.O_TMPFILE)
    try:
        return index_beside(record, fd, below=nothing_below, image_fd=image), content(fd)
    finally:
        os.close(fd)


def test_of_a_tar_in_another_image_only_headers_are_read(
    file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [tars.file(b"small%d" % number, b"s" * number) for number in range(40)]
    record = held(tars.tar(ROOT, *small, tars.file(b"large", bytes(20 << 20) + b"!")), file)
    reads = Reads(monkeypatch)
    found, _ = beside(record, file, tmp_path)
    assert found == record
    assert reads.count < 1 << 20


def test_an_index_that_is_made_again_reads_only_headers_and_is_as_made_at_first(
    file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "below" / "d").mkdir(parents=True, mode=0o751)

    @contextlib.contextmanager
    def below() -> Iterator[Sequence[int]]:
        fd = os.open(tmp_path / "below", os.O_RDONLY)
        yield [fd]
        os.close(fd)

    data = tars.tar(tars.file(b"d/small", b"s" * 700), tars.file(b"large", bytes(20 << 20) + b"!"))
    once = os.open(tmp_path, os.O_RDWR | os.O_TMPFILE)
    expected = store_layer(io.BytesIO(data), once, below=below)
    record = held(data, file)
    assert record != expected
    reads = Reads(monkeypatch)
    assert index_again(record, file, below=below) == expected
    assert reads.count < 1 << 20
    assert content(file) == content(once)
    os.close(once)


@pytest.mark.parametrize("more", [b"", b"behind the end"], ids=["whole", "more behind its end"])
def test_an_index_beside_is_the_same_wherever_the_tar_is(
    more: bytes, file: int, tmp_path: Path
) -> None:
    sparse = tars.tar(ROOT, tars.file(b"a", b"a" * 700), tars.directory(b"d"), tars.file(b"d/b"))
    record = held(sparse + more, file)
    _, index = beside(record, file, tmp_path)
    own = os.open(tmp_path, os.O_RDWR | os.O_TMPFILE)
    (tmp_path / "tar").write_bytes(sparse + more)
    with open(tmp_path / "tar", "rb") as tar:
        store_layer(tar, own, below=nothing_below, tar_fd=tar.fileno())
    assert index[HEAD:] == content(own)[HEAD:]
    os.close(own)


@pytest.mark.parametrize("cut", [700, 5000, 9000])
def test_a_tar_in_another_image_that_is_cut_is_an_error(
    cut: int, file: int, tmp_path: Path
) -> None:
    record = held(tars.tar(ROOT, tars.file(b"a", b"a" * 9000), tars.file(b"b")), file)
    os.ftruncate(file, cut)
    with pytest.raises(BrokenStreamError):
        beside(record, file, tmp_path)


def test_a_tar_in_another_image_with_hidden_bytes_behind_a_file_is_not_held(
    file: int, tmp_path: Path
) -> None:
    tar = tars.tar(ROOT, tars.file(b"a", b"a" * 9000), tars.file(b"b"))
    record = held(tar, file)
    end = tar.rindex(b"a" * 100) + 101
    os.pwrite(file, b"!", HEAD + end)
    with pytest.raises(NotHeldError, match="padding"):
        beside(record, file, tmp_path)
