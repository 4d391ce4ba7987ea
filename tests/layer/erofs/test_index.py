"""An image shows the tree that its index was written from."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdriver.errors import UnsupportedError
from graphdriver.layer.erofs.index import HEAD, Place, write_index
from graphdriver.layer.erofs.record import VERSION
from graphdriver.layer.erofs.structures import (
    ATTRIBUTES_MAX,
    BLOCK,
    NAMES_MAX,
    VALUE_MAX,
    attributes_fit,
)
from graphdriver.layer.erofs.tree import Area, Directory, Extent, Inode, Node, packed_file
from tests.support import filesystems
from tests.support.erofs_images import UUID, mounted, shown, write_image
from tests.support.erofs_layers import DIRECTORY, FILE, LINK, Layer, every_kind, layers
from tests.support.long import times

pytestmark = pytest.mark.root

ALL_PLACES = pytest.mark.parametrize("place", Place)


def directory(entries: Mapping[bytes, Node] | None = None) -> Directory:
    return Directory(DIRECTORY, 0, 0, 0, entries=dict(entries or {}))


def file(size: int = 0, data: int | tuple[Extent, ...] = 0) -> Inode:
    return Inode(FILE, 0, 0, 0, size=size, data=data)


def check(layer: Layer, directory: Path, place: Place = Place.BEHIND_TAR) -> None:
    """Write a layer's image, and compare what it shows when it is mounted."""
    write_image(layer, place, directory)
    with mounted(directory, place) as root:
        assert shown(root) == layer.shown()


@ALL_PLACES
@settings(max_examples=times(gate=60, long=2000))
@given(layers())
def test_the_mounted_image_shows_the_tree(place: Place, layer: Layer) -> None:
    with tempfile.TemporaryDirectory() as directory:
        check(layer, Path(directory), place)


@ALL_PLACES
def test_an_empty_layer(place: Place, tmp_path: Path) -> None:
    check(Layer(tar=b"", copied=b""), tmp_path, place)


@ALL_PLACES
def test_the_tar_and_the_copied_data_may_end_in_a_block(place: Place, tmp_path: Path) -> None:
    files: dict[bytes, Inode | Directory] = {
        b"tar": file(5, 512),
        b"copied": file(7, (Extent(0, Area.COPIED, 0, 7),)),
    }
    check(Layer(directory(files), tar=b"t" * 1024 + b"rest", copied=b"c" * 7), tmp_path, place)


def test_the_kernel_reads_the_files_themselves() -> None:
    """Without loop devices (Linux 6.12); not from tmpfs, so the files are on an ext4."""
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
        filesystems.loop("ext4", Path(memory), 32 << 20) as disk,
    ):
        for place in Place:
            write_image(every_kind(), place, disk)
            with mounted(disk, place, by_loop=False) as root:
                assert shown(root) == every_kind().shown()


@pytest.mark.parametrize("size", [n * BLOCK + more for n in (1, 2, 5) for more in (-1, 0, 1)])
def test_a_directory_ends_near_the_border_of_a_block(size: int, tmp_path: Path) -> None:
    """Each full block has two names of 244 bytes."""
    left = size - 27
    entries: dict[bytes, Inode | Directory] = {}
    while left > 12:
        name = b"%03d" % len(entries) + b"x" * min(left - 15, 241)
        entries[name] = file()
        left -= 12 + len(name)
    layer = Layer(directory({b"sub": directory(entries)}))
    check(layer, tmp_path)


def test_each_name_of_a_large_directory_is_found_and_no_other(tmp_path: Path) -> None:
    """The kernel looks for a name by halves: in the blocks, then in one of them."""
    names = [b"%d" % number * (1 + number % 9) for number in range(0, 4000, 2)]
    layer = Layer(directory({name: file() for name in names}))
    check(layer, tmp_path)
    with mounted(tmp_path, Place.BEHIND_TAR) as root:
        for number in range(1, 4000, 2):
            with pytest.raises(FileNotFoundError):
                os.stat(b"%d" % number * (1 + number % 9), dir_fd=root)


@pytest.mark.parametrize("attribute", [None, b"v" * 40, b"v" * 500])
def test_a_link_of_each_length_at_each_place_in_a_block(
    attribute: bytes | None, tmp_path: Path
) -> None:
    """A target that stands behind its inode must not cross the border of a block."""
    xattrs = {b"trusted.a": attribute} if attribute else None
    entries: dict[bytes, Inode | Directory] = {}
    for length in range(1, 560, 3):
        target = b"t" * length
        entries[b"%d" % length] = Inode(LINK, 0, 0, 0, size=length, data=target, xattrs=xattrs)
    check(Layer(directory(entries)), tmp_path)


VALUE_OF_EIGHT = ATTRIBUTES_MAX // 8 // 4 * 4 - 5
REST = ATTRIBUTES_MAX - 8 * (VALUE_OF_EIGHT + 5)


def eight(more: int) -> dict[bytes, bytes]:
    """Return attributes that take all room together, and some bytes more."""
    found = {b"user.%d" % number: b"v" * VALUE_OF_EIGHT for number in range(7)}
    return {**found, b"user.7": b"v" * (VALUE_OF_EIGHT + REST + more)}


def many(count: int) -> dict[bytes, bytes]:
    """Return attributes with names of 254 bytes."""
    return {b"user.%03d" % number + b"n" * 246: b"" for number in range(count)}


ATTRIBUTES_THAT_FIT: dict[str, dict[bytes, bytes]] = {
    "value": {b"user.a": b"v" * VALUE_MAX},
    "name": {b"user." + b"n" * 250: b"v"},
    "all": eight(0),
    "list": many(NAMES_MAX // 255),
}

ATTRIBUTES_THAT_DO_NOT: dict[str, dict[bytes, bytes]] = {
    "value": {b"user.a": b"v" * (VALUE_MAX + 1)},
    "name": {b"user." + b"n" * 251: b""},
    "all": eight(1),
    "list": many(NAMES_MAX // 255 + 1) | {b"user.b": b""},
    "no name": {b"user.": b"v"},
    "namespace": {b"com.apple.a": b"v"},
    "system": {b"system.nfs4_acl": b"v"},
}


@pytest.mark.parametrize("xattrs", ATTRIBUTES_THAT_FIT.values(), ids=ATTRIBUTES_THAT_FIT)
def test_attributes_up_to_the_limits(xattrs: dict[bytes, bytes], tmp_path: Path) -> None:
    assert attributes_fit(xattrs)
    layer = Layer(directory({b"file": file(7, 512), b"sub": directory()}))
    for _, one in layer.everything():
        one.xattrs = xattrs
    check(layer, tmp_path)


@pytest.mark.parametrize("mtime_ns", [-(10**9) - 1, -1, 0, 10**18 + 5, 2**62 * 10**9])
def test_a_file_in_its_small_form_is_written_as_any_other(mtime_ns: int, tmp_path: Path) -> None:
    facts = FILE, 7, 2**32 - 2, mtime_ns, 700, 3 * BLOCK
    images = []
    for node in (Inode(*facts), packed_file(*facts)):
        write_image(Layer(directory({b"file": node})), Place.BEHIND_TAR, tmp_path)
        images.append((tmp_path / "image").read_bytes())
    assert images[0] == images[1]


@pytest.mark.parametrize("xattrs", ATTRIBUTES_THAT_DO_NOT.values(), ids=ATTRIBUTES_THAT_DO_NOT)
def test_attributes_over_a_limit_are_refused(xattrs: dict[bytes, bytes], tmp_path: Path) -> None:
    assert not attributes_fit(xattrs)
    layer = Layer(directory())
    layer.root.xattrs = xattrs
    with pytest.raises(UnsupportedError, match="attributes"):
        write_image(layer, Place.BEHIND_TAR, tmp_path)


def link(target: bytes) -> Inode:
    return Inode(LINK, 0, 0, 0, data=target)


SPARSE_4_GIB = (Extent(512, Area.TAR, 0, 4 << 30),)

TOO_MUCH = {
    "name": {b"n" * 256: file()},
    "empty name": {b"": file()},
    "slash": {b"a/b": file()},
    "NUL": {b"a\0b": file()},
    "target": {b"link": link(b"t" * 4096)},
    "no target": {b"link": link(b"")},
    "major": {b"device": Inode(0o020600, 0, 0, 0, rdev=os.makedev(4096, 0))},
    "minor": {b"device": Inode(0o020600, 0, 0, 0, rdev=os.makedev(0, 1 << 20))},
    "owner": {b"file": Inode(FILE, 1 << 32, 0, 0)},
    "group": {b"file": Inode(FILE, 0, -1, 0)},
    "time": {b"file": Inode(FILE, 0, 0, 2**63 * 10**9)},
    "size": {b"file": file(2**63, SPARSE_4_GIB)},
    "off the grid": {b"file": file(4096, (Extent(100, Area.TAR, 0, 512),))},
    "long list": {b"file": file(2**62, (Extent(512, Area.TAR, 0, 512),))},
}


@pytest.mark.parametrize("entries", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_no_image_holds_is_refused(
    entries: dict[bytes, Inode | Directory], tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedError):
        write_image(Layer(directory(entries)), Place.BEHIND_TAR, tmp_path)


IN_TWO_AREAS = Extent(0, Area.TAR, 0, BLOCK), Extent(BLOCK, Area.COPIED, 0, BLOCK)

NO_TREE = {
    "type": {b"file": Inode(0o644, 0, 0, 0)},
    "self": {b".": file()},
    "parent": {b"..": directory()},
    "behind the tar": {b"file": file(BLOCK, 40 * BLOCK)},
    "before the tar": {b"file": file(BLOCK, -BLOCK)},
    "in a block": {b"file": file(BLOCK, 1)},
    "behind the copied data": {b"file": file(BLOCK, (Extent(0, Area.COPIED, 40 * BLOCK, BLOCK),))},
    "sparse": {b"file": file(2 * BLOCK, (Extent(0, Area.TAR, 40 * BLOCK, BLOCK),))},
    "two areas": {b"file": file(3 * BLOCK, IN_TWO_AREAS)},
    "target of a file": {b"file": Inode(FILE, 0, 0, 0, size=1, data=b"target")},
    "data of a link": {b"link": Inode(LINK, 0, 0, 0, size=1, data=512)},
}


@ALL_PLACES
@pytest.mark.parametrize("entries", NO_TREE.values(), ids=NO_TREE)
def test_no_image_shows_what_is_outside_the_data(
    entries: dict[bytes, Inode | Directory], place: Place, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, TypeError)):
        write_image(Layer(directory(entries)), place, tmp_path)


@ALL_PLACES
def test_files_at_the_end_of_the_largest_tar(place: Place, tmp_path: Path) -> None:
    """Block numbers have 32 bits. The tar is a hole but for its end."""
    size = (2 << 40 if place is Place.BEHIND_TAR else 1 << 40) - (1 << 20)
    at = 0 if place is Place.OWN_FILE else HEAD
    name = "image" if place is Place.BEHIND_TAR else "tar"
    with open(tmp_path / name, "wb") as tar:
        tar.seek(at + size - 5)
        tar.write(b"end\0\0")
    end = size - BLOCK
    long = 6 << 30
    root = directory({b"end": file(510, end), b"long": file(long, size - long)})
    fd = os.open(tmp_path / "image", os.O_RDWR | os.O_CREAT, 0o600)
    write_index(root, fd, place, tar_size=size, copied_size=0, uuid=UUID)
    os.close(fd)
    with mounted(tmp_path, place) as shown_root:
        for name, last in {"end": b"\0\0\0end", "long": b"\0end\0\0"}.items():
            with open(os.open(name, os.O_RDONLY, dir_fd=shown_root), "rb") as found:
                found.seek(-6, os.SEEK_END)
                assert found.read() == last
                assert found.tell() == (510 if name == "end" else long)


@ALL_PLACES
def test_a_larger_tar_is_refused(place: Place, tmp_path: Path) -> None:
    size = 2 << 40 if place is Place.BEHIND_TAR else 1 << 40
    with open(tmp_path / "image", "wb") as image, pytest.raises(UnsupportedError, match="takes"):
        write_index(directory(), image.fileno(), place, tar_size=size, copied_size=0, uuid=UUID)


GOLDEN = {
    (1, Place.BEHIND_TAR): "34d56dc40b48ca3016e42afb0096ee88f728a915cf9968f84401b63eaa00c1b9",
    (1, Place.OWN_FILE): "f8cd62ad0190aa6f6476a9dc08588079fce775fa806f2537a44b92c5ec26a7f1",
    (1, Place.BEHIND_HEAD): "3a50910f27ef50817e0f235b512b243b7e6c43b3d18555f0d23fef30ee38f74e",
}
"""SHA-256 of the images of `every_kind`. A change that changes one needs a new `record.VERSION`."""


@ALL_PLACES
def test_a_version_of_the_format_gives_the_same_bytes_forever(place: Place, tmp_path: Path) -> None:
    write_image(every_kind(), place, tmp_path)
    found = hashlib.sha256((tmp_path / "image").read_bytes()).hexdigest()
    assert found == GOLDEN[VERSION, place]


@settings(max_examples=times(gate=30, long=500))
@given(layers(), st.randoms(use_true_random=False))
def test_the_order_of_entries_changes_no_byte(layer: Layer, chance: random.Random) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        write_image(layer, Place.BEHIND_TAR, path)
        before = (path / "image").read_bytes()
        for _, one in list(layer.everything()):
            if isinstance(one, Directory):
                one.entries = _shuffled(one.entries, chance)
            if one.xattrs:
                one.xattrs = _shuffled(one.xattrs, chance)
        write_image(layer, Place.BEHIND_TAR, path)
        assert (path / "image").read_bytes() == before


def _shuffled(found: dict, chance: random.Random) -> dict:  # type: ignore[type-arg]
    items = list(found.items())
    chance.shuffle(items)
    return dict(items)


def test_a_tree_of_ten_thousand_levels(tmp_path: Path) -> None:
    layer = Layer()
    above = layer.root
    for _ in range(10_000):
        below = directory()
        above.entries[b"d"] = below
        above = below
    above.entries[b"file"] = file(5, 512)
    write_image(layer, Place.BEHIND_TAR, tmp_path)
    with mounted(tmp_path, Place.BEHIND_TAR) as root:
        fd = os.dup(root)
        for _ in range(10_000):
            next_fd = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = next_fd
        with open(os.open("file", os.O_RDONLY, dir_fd=fd), "rb") as found:
            assert found.read() == layer.tar[512:517]
        os.close(fd)


def test_memory_is_for_directories_and_for_files_with_several_names(tmp_path: Path) -> None:
    """What is written is not held: else a constant, and 16 bytes for a name of the same directory."""
    count = 20_000
    names = [b"%d" % number for number in range(count)]
    files: dict[bytes, Inode | Directory] = {name: file() for name in names}
    several: dict[bytes, Inode | Directory] = {name: file() for name in names[: count // 2]}
    several |= {b"again" + name: one for name, one in several.items()}
    cases = {
        "files": (directory(files), 16),
        "several names": (directory(several), 64),
        "directories": (directory({name: directory() for name in names}), 32),
    }
    for what, (root, most) in cases.items():
        with open(tmp_path / "image", "wb") as image:
            tracemalloc.start()
            write_index(
                root, image.fileno(), Place.BEHIND_TAR, tar_size=0, copied_size=0, uuid=UUID
            )
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < (1 << 20) + most * count, what
