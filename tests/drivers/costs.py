"""What calls cost on trees that a container can make: ``python -m tests.drivers.costs``.

Arguments: the driver, the shape of the tree, two sizes of it, and an empty directory. For each call and
each size it prints a line: the call, how much there is to do, and how many calls of functions it took,
Python's and the kernel's. The memory that a call may have (RLIMIT_AS) is a few MiB and twice what the
tree takes on disk, as small as a filesystem could keep it; if that was too little, -1 is printed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

from graphdriver import Driver, NaiveDiffDriver
from graphdriver.docker import codec
from graphdriver.docker.messages import ChangesResponse
from graphdriver.driver import ProtoDriver, mounted
from graphdriver.drivers.btrfs.driver import BtrfsDriver
from graphdriver.drivers.erofs.driver import ErofsDriver
from graphdriver.drivers.overlay.driver import OverlayDriver
from graphdriver.drivers.overlay.fuse_overlayfs import FuseOverlayfsDriver
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import UnsupportedError
from graphdriver.layer.tree.inodes import disk_usage

MIB = 1 << 20
INODE = 256
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
LONGEST = b"n" * 250

DRIVERS: dict[str, type[ProtoDriver]] = {
    "overlay2": Overlay2Driver,
    "erofs": ErofsDriver,
    "fuse-overlayfs": FuseOverlayfsDriver,
    "vfs": VfsDriver,
    "btrfs": BtrfsDriver,
}


class Ground:
    """A directory of a tree that is built, deeper and deeper; counts what it takes on disk."""

    def __init__(self, root: int, *, deletes_by_marks: bool) -> None:
        self.fd = os.dup(root)
        self.deletes_by_marks = deletes_by_marks
        self.inodes = 0
        self.size = 0

    def down(self, name: bytes) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=self.fd)
        below = os.open(name, DIRECTORY, dir_fd=self.fd)
        os.close(self.fd)
        self.fd = below
        self._count(name)

    def file(self, name: bytes) -> None:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600, dir_fd=self.fd))
        self._count(name)

    def link(self, name: bytes, other: bytes) -> None:
        os.link(name, other, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        self._count(other)

    def attribute(self, name: bytes, value: bytes) -> None:
        fd = os.open(name, os.O_RDONLY, dir_fd=self.fd)
        os.setxattr(fd, "trusted.test", value)
        os.close(fd)
        self.size += len(value)

    def delete(self, name: bytes) -> None:
        if self.deletes_by_marks:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=self.fd)
        else:
            os.unlink(name, dir_fd=self.fd)
        self._count(name)

    def _count(self, name: bytes) -> None:
        self.inodes += 1
        self.size += INODE + len(name)


def deep(ground: Ground, size: int) -> None:
    for _ in range(size):
        ground.down(LONGEST)


def wide(ground: Ground, size: int) -> None:
    for n in range(size):
        ground.file(b"%d" % n)


def directories_far_down(ground: Ground, size: int) -> None:
    deep(ground, 50)
    for n in range(size):
        os.mkdir(b"%d" % n, dir_fd=ground.fd)
        ground.inodes += 1
        ground.size += INODE + 8


def long_names(ground: Ground, size: int) -> None:
    deep(ground, 50)
    for n in range(size):
        ground.file(b"%0250d" % n)


def links(ground: Ground, size: int) -> None:
    deep(ground, 50)
    for n in range(size):
        ground.file(b"%d" % n)
        ground.link(b"%d" % n, b"again%d" % n)


def attributes(ground: Ground, size: int) -> None:
    for n in range(size):
        ground.file(b"%d" % n)
        ground.attribute(b"%d" % n, b"x" * 3000)


def files_to_delete(ground: Ground, size: int) -> None:
    deep(ground, 50)
    for n in range(size):
        ground.file(b"%d" % n)


def whiteouts(ground: Ground, size: int) -> None:
    deep(ground, 50)
    for n in range(size):
        ground.delete(b"%d" % n)


Shape = Callable[[Ground, int], None]
SHAPES: dict[str, Shape] = {
    shape.__name__: shape
    for shape in (
        deep,
        wide,
        directories_far_down,
        long_names,
        links,
        attributes,
        whiteouts,
    )
}
BELOW: dict[str, Shape] = {"whiteouts": files_to_delete}
"""What is in the parent."""


def open_tree(driver: Driver, id: str) -> contextlib.AbstractContextManager[int]:
    """Open what a layer holds: an upper directory without its mount, which would refuse long paths."""
    if isinstance(driver, OverlayDriver):
        return driver._layers.opened(id)
    return opened(driver, id)


@contextlib.contextmanager
def opened(driver: Driver, id: str) -> Iterator[int]:
    with mounted(driver, id) as path:
        fd = os.open(path, DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)


class Counter:
    """Counts the calls of functions, in all threads that begin meanwhile too."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, _frame: Any, event: str, _argument: Any) -> None:
        self.count += event in ("call", "c_call")


def address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def limited(size: int) -> Iterator[None]:
    """Allow a size of memory more than there is, in bytes."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


@contextlib.contextmanager
def enough_if_it_ends() -> Iterator[None]:
    """Go on after work that had too little memory."""
    try:
        yield
    except MemoryError:
        pass
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise


class Trial:
    """The calls on one tree."""

    def __init__(self, driver: Driver, shape: str, size: int) -> None:
        self._driver = driver
        self._base, self._layer, self._child, self._again = (
            f"{name}{size}" for name in ("base", "layer", "child", "again")
        )
        self._inodes = self._size = 0
        driver.create(self._base, "", "", {})
        self._build(self._base, BELOW.get(shape, lambda _ground, _size: None), size)
        driver.create(self._layer, self._base, "", {})
        self._build(self._layer, SHAPES[shape], size)

    def _build(self, id: str, shape: Shape, size: int) -> None:
        by_marks = isinstance(self._driver, OverlayDriver)
        with open_tree(self._driver, id) as root:
            ground = Ground(root, deletes_by_marks=by_marks)
            shape(ground, size)
            os.close(ground.fd)
        self._inodes += ground.inodes
        self._size += ground.size

    def run(self) -> None:
        # Elsewhere: a deep tree's tar takes much more than the tree, and more than a small disk has.
        with tempfile.TemporaryFile(dir="/dev/shm") as tar:
            self._measure("Changes", self._changes)
            self._measure("DiffSize", lambda: self._driver.diff_size(self._layer, self._base))
            self._measure("Diff", lambda: self._diff(tar))
            self._driver.create(self._again, self._base, "", {})
            tar.seek(0)
            self._measure("ApplyDiff", lambda: self._apply(tar))
        self._measure("Create", self._create)
        self._measure("usage", self._usage)
        self._measure("Remove", self._remove)

    def _measure(self, call: str, do: Callable[[], int]) -> None:
        """Print what there is to do, in inodes and pages of what is given in or out, and what was done.

        Args:
            call: its name.
            do: makes it and returns how many bytes were given in or out.
        """
        calls, given = -1, 0
        with enough_if_it_ends(), limited(8 * MIB + 2 * self._size):
            with Counter() as counter:
                given = do()
            calls = counter.count
        print(call, self._inodes + given // 4096, calls, flush=True)

    def _changes(self) -> int:
        with contextlib.suppress(UnsupportedError):  # the answer would be too long
            codec.encode(ChangesResponse(self._driver.changes(self._layer, self._base)))
        return 0  # however long they are, each takes as many calls

    def _diff(self, out: BinaryIO) -> int:
        stream = self._driver.diff(self._layer, self._base)
        with contextlib.closing(stream):
            while piece := stream.read(32 << 10):
                out.write(piece)
        return out.tell()

    def _apply(self, tar: BinaryIO) -> int:
        self._driver.apply_diff(self._again, self._base, tar)
        return tar.tell()

    def _create(self) -> int:
        self._driver.create(self._child, self._layer, "", {})
        return 0

    def _usage(self) -> int:
        counts = getattr(self._driver, "usage", None)
        if counts:
            counts(self._layer)
        else:
            with opened(self._driver, self._layer) as fd:
                disk_usage(fd)
        return 0

    def _remove(self) -> int:
        store = vars(vars(self._driver)["proto"])["_store"]
        for id in (self._child, self._again, self._layer, self._base):
            self._driver.remove(id)
            store.settle()
        if left := os.listdir(os.path.join(store.home, ".trash")):
            raise MemoryError(f"left in the trash: {left}")
        return 0


def main(name: str, shape: str, sizes: str, path: str) -> None:
    codec.MOST_CHANGES_SIZE = MIB  # type: ignore[misc]
    threading.stack_size(MIB // 4)  # else the stack of the remover is most of what a call may have
    directory = Path(path)
    (directory / "home").mkdir()
    proto = DRIVERS[name]()
    driver = proto if isinstance(proto, Driver) else NaiveDiffDriver(proto)
    driver.init(str(directory / "home"), [], [], [])
    try:
        for size in sizes.split(","):
            Trial(driver, shape, int(size)).run()
    finally:
        driver.cleanup()


if __name__ == "__main__":
    main(*sys.argv[1:])
