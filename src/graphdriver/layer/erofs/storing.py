"""Storing a layer's tar in a file while it is read."""

from __future__ import annotations

import os
from typing import Final

from graphdriver.driver import ReadStream
from graphdriver.layer.erofs.stored import TarSummer, TarSums

_READ: Final = 1 << 20
"""How much to read at a time where nobody looks at it, in bytes."""


class StoringStream:
    """A `graphdriver.driver.ReadStream` that stores what is read from it.

    Args:
        archive: the tar.
        fd: the file, positioned where the tar begins; borrowed.
    """

    def __init__(self, archive: ReadStream, fd: int) -> None:
        self._archive = archive
        self._fd = fd
        self._summer = TarSummer()

    def read(self, n: int, /) -> bytes:
        """Return 1 to ``n`` bytes, which are stored; ``b""`` at the end.

        Raises:
            BrokenStreamError: the sender broke off.
            OSError: they cannot be written.
        """
        piece = self._archive.read(n)
        self._summer.add(piece)
        left = memoryview(piece)
        while left:
            left = left[os.write(self._fd, left) :]
        return piece

    def finish(self) -> TarSums:
        """Store the rest; return the checksums of the whole tar.

        Raises:
            BrokenStreamError: the sender broke off.
            OSError: the rest cannot be written.
        """
        while self.read(_READ):
            pass
        return self._summer.sums()
