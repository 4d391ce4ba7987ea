"""The Gets that snapshots hold until they are removed.

A driver that counts gets (`graphdriver.abilities.CountsGets`) keeps its counts over a restart. So for
such a driver each snapshot has a file, which names the layer to put. The file also has the boot's ID: a
Get does not outlive a boot.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Set as AbstractSet

from graphdriver import returned
from graphdriver.driver import ProtoDriver
from graphdriver.files.directories import make_directories
from graphdriver.files.runtime_directory import boot_id
from graphdriver.files.small_files import write_whole

_log = logging.getLogger(__name__)


class HeldGets:
    """The snapshots that hold a Get, by number.

    Args:
        driver: the driver that keeps the layers.
        directory: the directory of the files; it is made with the first one.
        kept: whether the driver's counts outlive this process.
    """

    def __init__(self, driver: ProtoDriver, directory: str, *, kept: bool) -> None:
        self._driver = driver
        self._directory = directory
        self._kept = kept
        self._boot = boot_id()
        self._layers = self._read() if kept else dict[int, str]()

    def numbers(self) -> set[int]:
        """Return the snapshots that hold a Get."""
        return set(self._layers)

    def hold(self, number: int, layer: str) -> str:
        """Get a layer for a snapshot, unless it holds that Get already.

        Returns:
            The path of the layer's tree.

        Raises:
            OSError: there is no room for the file.
        """
        path = returned.directory(self._driver.get(layer, ""))
        if number in self._layers:
            self._driver.put(layer)  # a snapshot is removed once, so it holds one Get
        self._layers[number] = layer
        if self._kept:
            make_directories(self._directory, 0o700)
            # Not synced: after a crash of the machine the file is from another boot, and ignored.
            write_whole(self._path(number), f"{self._boot} {layer}", 0o600, sync=False)
        return path

    def release(self, number: int) -> None:
        """Put the layer of a snapshot, if the snapshot holds a Get; log failures."""
        layer = self._layers.pop(number, None)
        if layer is None:
            return
        # Before the Put: a kill between the two leaves a mount. The other order could lead to a second
        # Put, which could unmount the layer while another snapshot uses it.
        self._forget(number)
        try:
            self._driver.put(layer)
        except (Exception, SystemExit):
            _log.exception("the layer %s cannot be put", layer)

    def release_all_but(self, numbers: AbstractSet[int]) -> None:
        """Put the layers of snapshots that do not exist: a kill came before they were recorded."""
        for number in self.numbers() - numbers:
            self.release(number)

    def _forget(self, number: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(number))

    def _path(self, number: int) -> str:
        return os.path.join(self._directory, str(number))

    def _read(self) -> dict[int, str]:
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = os.listdir(self._directory)
        found = {}
        for number in (int(name) for name in names if name.isdecimal()):
            with open(self._path(number), encoding="utf-8", errors="replace") as file:
                boot, _, layer = file.read().partition(" ")
            if boot == self._boot and layer:
                found[number] = layer
            else:
                self._forget(number)
        return found
