"""Writing a part of a file in pieces, one behind the other."""

from __future__ import annotations

import os
from typing import Final

_AT_ONCE: Final = 1 << 18


class PartWriter:
    """Writes bytes to a file from a position on.

    Args:
        fd: the file, open for writing; borrowed.
        at: the position, in bytes.
    """

    def __init__(self, fd: int, at: int) -> None:
        self._fd = fd
        self._at = at
        self._held = bytearray()

    def tell(self) -> int:
        """Return where the next bytes begin in the file, in bytes."""
        return self._at + len(self._held)

    def write(self, data: bytes) -> None:
        """Write bytes, at the latest with `flush`.

        Raises:
            OSError: they, or earlier ones, cannot be written.
        """
        self._held += data
        if len(self._held) >= _AT_ONCE:
            self.flush()

    def pad(self, unit: int) -> None:
        """Write zeros up to a position that is a multiple of ``unit``."""
        self._held += bytes(-self.tell() % unit)

    def flush(self) -> None:
        """Write all that is held; errors as for `write`."""
        left = memoryview(self._held)
        while left:
            done = os.pwrite(self._fd, left, self._at)
            self._at += done
            left = left[done:]
        self._held = bytearray()
