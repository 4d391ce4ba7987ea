"""Faults that show only with much."""

from __future__ import annotations

import os

from graphdriver.driver import ReadStream, mounted
from tests.conformance.plugin.faults.fault import Broken, caught_by
from tests.conformance.plugin.faults.proxy import Answer, Proxy, Request


@caught_by("streams/file-of-a-gigabyte")
class OneByteIsWrong(Broken):
    """Of a large layer one byte changes."""

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        return super().apply_diff(id, parent, _Changed(archive))


class _Changed:
    def __init__(self, whole: ReadStream) -> None:
        self._whole = whole
        self._at = 0

    def read(self, n: int, /) -> bytes:
        piece = self._whole.read(n)
        bad = (40 << 20) - self._at
        self._at += len(piece)
        if 0 <= bad < len(piece):
            return piece[:bad] + bytes([piece[bad] ^ 1]) + piece[bad + 1 :]
        return piece


@caught_by("streams/little-memory")
class BodiesAreGathered(Proxy):
    """A layer is read whole before it is unpacked."""

    def exchange(self, request: Request) -> Answer:
        if request.call == "ApplyDiff":
            request.whole()
        return super().exchange(request)


@caught_by("streams/twenty-thousand-files")
class OneFileIsLost(Broken):
    """Of many files one is not there."""

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        size = super().apply_diff(id, parent, archive)
        with mounted(self.whole, id) as root:
            lost = os.path.join(root, "d7", "f19807")
            if os.path.exists(lost):
                os.unlink(lost)
        return size
