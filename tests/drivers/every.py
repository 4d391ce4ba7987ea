"""Each driver of ours, on the filesystem that is quickest for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from graphdriver import Driver, NaiveDiffDriver, ProtoDriver
from graphdriver.drivers.btrfs.driver import BtrfsDriver
from graphdriver.drivers.erofs.driver import ErofsDriver
from graphdriver.drivers.overlay.driver import OverlayDriver
from graphdriver.drivers.overlay.fuse_overlayfs import FuseOverlayfsDriver
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.store import Store

EVERY: Final[dict[str, Callable[[], ProtoDriver]]] = {
    "vfs": VfsDriver,
    "overlay2": Overlay2Driver,
    "erofs": ErofsDriver,
    "btrfs": BtrfsDriver,
    "fuse-overlayfs": FuseOverlayfsDriver,
}

OVERLAYS: Final = ("overlay2", "erofs", "fuse-overlayfs")


TREE: Final = {
    "vfs": "root",
    "overlay2": "diff",
    "erofs": "diff",
    "btrfs": "root",
    "fuse-overlayfs": "diff",
}
"""The directory of a layer's own that holds its files; on erofs those that were not applied."""


def taken_up(name: str, home: Path) -> Driver:
    """Return a driver that has taken up a home, as in a new process."""
    own = EVERY[name]()
    driver = own if isinstance(own, Driver) else NaiveDiffDriver(own)
    driver.init(str(home), [], [], [])
    return driver


def store_of(driver: ProtoDriver) -> Store:
    """Return the store of one of our drivers, by itself or within the naive differ."""
    if isinstance(driver, OverlayDriver):
        return driver._layers._store
    own = driver.proto if isinstance(driver, NaiveDiffDriver) else driver
    assert isinstance(own, VfsDriver | BtrfsDriver)
    return own._store


def retire(driver: ProtoDriver) -> None:
    """Unmount everything, and wait until removed layers are deleted: the filesystem may go then."""
    driver.cleanup()
    store_of(driver).settle()


@contextlib.contextmanager
def serving(name: str, home: Path) -> Iterator[Driver]:
    """Take up a home with a driver for the length of a ``with`` block."""
    driver = taken_up(name, home)
    try:
        yield driver
    finally:
        retire(driver)
