"""Which snapshots hold a Get of a layer, until they are removed.

A driver that counts gets (`graphdriver.driver.CountsGets`) knows its counts after a restart. So with
such a driver a file for each snapshot tells that a Put is owed, and of which layer. The file has the
boot's ID too: what was got does not outlive a boot.
"""

from __future__ import annotations

import contextlib
import os

from graphdriver.files.directories import make_directories
from graphdriver.files.runtime_directory import boot_id
from graphdriver.files.small_files import write_whole


class Got:
    """The snapshots that hold a Get.

    Args:
        directory: where files are kept; it is made with the first.
        kept: whether the driver's counts outlive this process.
    """

    def __init__(self, directory: str, *, kept: bool) -> None:
        self._directory = directory
        self._kept = kept
        self._boot = boot_id()
        self._layers = self._read() if kept else dict[int, str]()

    def __contains__(self, number: int) -> bool:
        return number in self._layers

    def numbers(self) -> set[int]:
        """Return the snapshots."""
        return set(self._layers)

    def add(self, number: int, layer: str) -> None:
        """Note that a layer was got for a snapshot.

        Raises:
            OSError: there is no room for the note.
        """
        self._layers[number] = layer
        if self._kept:
            make_directories(self._directory, 0o700)
            # Not synced: after a crash of the machine it is another boot.
            write_whole(self._path(number), f"{self._boot} {layer}", 0o600, sync=False)

    def pop(self, number: int) -> str | None:
        """Return the layer that a snapshot has got, and note that it is put; None if it has none."""
        layer = self._layers.pop(number, None)
        if layer is not None:
            self._forget(number)
        return layer

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
