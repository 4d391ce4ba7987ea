"""Trees that a container left behind: whatever is in them, nothing is opened but files and folders."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver.driver import ClosableStream
from graphdriver.errors import GraphDriverError
from graphdriver.layer.change_list import changed_size
from graphdriver.layer.changes import compare
from graphdriver.layer.overlay.pack import UpperPacker
from graphdriver.layer.pack import pack
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.tree_copy import copy_tree
from tests.layer.hostile.ground import opened
from tests.layer.listed import changes, upper_changes
from tests.support.canary import SECRET, Canary
from tests.support.opens import watched

DOORS = ("fifo", "device", "disk", "socket", "\n\x1b[2J", "again")


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary.hatch(tmp_path / "canary")


@pytest.fixture
def tree(tmp_path: Path, canary: Canary) -> Iterator[Path]:
    """Doors of every kind, among files, and links out of the layer."""
    root = tmp_path / "tree"
    (root / "d").mkdir(parents=True)
    build(root / "d")
    (root / "d" / "link").symlink_to(canary.root)
    (root / "d" / "file-link").symlink_to(canary.root / "secret")
    yield root
    with opened(tmp_path) as folder:
        remove_tree(folder, b"tree")


def build(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    os.mkfifo(folder / "\n\x1b[2J")
    os.mknod(folder / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(folder / "disk", stat.S_IFBLK | 0o666, os.makedev(7, 0))
    (folder / "again").hardlink_to(folder / "device")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    (folder / "file").write_bytes(b"content")
    (folder / "-rf *").write_bytes(b"content")
    (folder / ("x" * 255)).write_bytes(b"content")


def all_of(stream: ClosableStream) -> bytes:
    data = b""
    with contextlib.closing(stream):
        while piece := stream.read(1 << 20):
            data += piece
    return data


def packed(root: int) -> bytes:
    return all_of(pack(root, None))


def packed_as_upper_folder(root: int) -> bytes:
    return all_of(UpperPacker(root))


def compared(root: int) -> object:
    with opened(Path(f"/proc/self/fd/{root}/../lower")) as lower:
        size = changed_size(compare(root, lower))
        return [changes(root, lower), changes(lower, root), size]


def compared_as_upper_folder(root: int) -> object:
    with opened(Path(f"/proc/self/fd/{root}/../lower")) as lower:
        return upper_changes(root, [lower])


def copied(root: int) -> object:
    place = Path(f"/proc/self/fd/{root}/../copy")
    place.mkdir(exist_ok=True)
    with opened(place) as target:
        for name in os.listdir(target):
            remove_tree(target, os.fsencode(name))
        copy_tree(root, target)
    return None


WORK = (packed, packed_as_upper_folder, compared, compared_as_upper_folder, copied)


@pytest.mark.usefixtures("way_to_open")
@pytest.mark.parametrize("work", WORK)
def test_nothing_is_opened_but_files_and_folders(
    tmp_path: Path, canary: Canary, tree: Path, work: Callable[[int], object]
) -> None:
    (tmp_path / "lower" / "d").mkdir(parents=True)
    build(tmp_path / "lower" / "d")
    doors = [bytes(root / "d" / name) for root in (tree, tmp_path / "lower") for name in DOORS]
    with canary.unharmed(), watched(doors) as used, opened(tree) as root:
        assert SECRET not in repr(work(root)).encode()
    assert used == []


def test_nothing_is_opened_to_remove_it(tmp_path: Path, canary: Canary, tree: Path) -> None:
    """Not even what was made immutable, of which the flags are looked at."""
    subprocess.run(["chattr", "+a", str(tree / "d")], check=True)
    doors = [bytes(tree / "d" / name) for name in DOORS]
    with canary.unharmed(), watched(doors) as used, opened(tmp_path) as folder:
        remove_tree(folder, b"tree")
        assert os.listdir(folder) == ["canary"]
    assert used == []


SWAPPER = """
import ctypes, os, sys
one, other = map(os.fsencode, sys.argv[1:])
exchange = ctypes.CDLL(None).renameat2
print(flush=True)
while True:
    exchange(-100, one, -100, other, 2)
"""


@pytest.fixture
def swapped(tree: Path) -> Iterator[Path]:
    """A tree in which a file and a device take each other's place all the time."""
    program = [sys.executable, "-c", SWAPPER, str(tree / "d" / "file"), str(tree / "d" / "device")]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield tree
        finally:
            process.kill()


@pytest.mark.usefixtures("way_to_open")
@pytest.mark.parametrize("work", WORK)
def test_a_device_in_a_files_place_is_not_opened(
    tmp_path: Path, swapped: Path, work: Callable[[int], object]
) -> None:
    """Else a container that may make devices, but not use them, has root use them for it."""
    (tmp_path / "lower" / "d").mkdir(parents=True)
    build(tmp_path / "lower" / "d")
    doors = [bytes(swapped / "d" / "again")]  # the same inode, by a name that stays
    with watched(doors) as used, opened(swapped) as root:
        for _ in range(300):
            with contextlib.suppress(GraphDriverError, OSError):
                work(root)
    assert used == []


def test_who_looks_first_and_opens_then_does_open_it(swapped: Path) -> None:
    doors = [bytes(swapped / "d" / "again")]
    with watched(doors) as used:
        for _ in range(20_000):
            if (swapped / "d" / "file").is_file():
                with open(swapped / "d" / "file", "rb") as file:
                    file.read()
    assert set(used) == set(doors)
