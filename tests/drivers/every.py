"""Each driver of ours, on the filesystem that is quickest for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from graphdriver import Driver, NaiveDiffDriver, ProtoDriver
from graphdriver.drivers.btrfs.driver import BtrfsDriver
from graphdriver.drivers.overlay.fuse_overlayfs import FuseOverlayfsDriver
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.drivers.vfs.driver import VfsDriver

EVERY: Final[dict[str, Callable[[], ProtoDriver]]] = {
    "vfs": VfsDriver,
    "overlay2": Overlay2Driver,
    "btrfs": BtrfsDriver,
    "fuse-overlayfs": FuseOverlayfsDriver,
}

OVERLAYS: Final = ("overlay2", "fuse-overlayfs")


def retire(driver: ProtoDriver) -> None:
    """Unmount all, and wait until nothing is deleted any more, so that filesystems can be, too."""
    driver.cleanup()
    assert isinstance(driver, (VfsDriver, BtrfsDriver, Overlay2Driver, FuseOverlayfsDriver))
    store = driver._store if isinstance(driver, (VfsDriver, BtrfsDriver)) else driver._layers._store
    store.settle()


@contextlib.contextmanager
def serving(name: str, home: Path) -> Iterator[Driver]:
    """Take up a home with a driver for the length of a ``with`` block."""
    own = EVERY[name]()
    driver = own if isinstance(own, Driver) else NaiveDiffDriver(own)
    driver.init(str(home), [], [], [])
    try:
        yield driver
    finally:
        retire(own)
