"""Faults in what is left when all is over."""

from __future__ import annotations

import os
import subprocess
from typing import ClassVar

from graphdriver.driver import ClosableStream, ReadStream, mounted
from tests.conformance.plugin.faults.fault import Broken, caught_by


class _Keeping(Broken):
    """Keeps files of layers by another name."""

    @property
    def kept(self) -> str:
        """The directory for that."""
        directory = os.path.join(self.home, ".kept")
        os.makedirs(directory, exist_ok=True)
        return directory

    def keep(self, id: str) -> None:
        with mounted(self.whole, id) as root:
            for name in os.listdir(root):
                os.link(os.path.join(root, name), os.path.join(self.kept, f"{id}-{name}"))


@caught_by("leftovers/disk-space-is-freed")
class NothingIsDeleted(_Keeping):
    """A layer's files outlive its Remove."""

    def remove(self, id: str) -> None:
        if self.exists(id):
            self.keep(id)
        super().remove(id)


@caught_by("leftovers/failed-layer-leaves-nothing")
class FailuresAreKept(_Keeping):
    """Files of a transfer that failed are kept, for whoever wants to look at them."""

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        try:
            return super().apply_diff(id, parent, archive)
        except Exception:
            self.keep(id)
            raise


@caught_by("leftovers/nothing-is-mounted")
class DiffSizeLeavesAMount(_Keeping):
    """DiffSize mounts a layer to look at it, and leaves it so."""

    def diff_size(self, id: str, parent: str) -> int:
        place = os.path.join(self.kept, id)
        os.makedirs(place, exist_ok=True)
        subprocess.run(["mount", "--bind", self.whole.get(id, ""), place], check=True)
        return super().diff_size(id, parent)


@caught_by("leftovers/unread-diffs-leave-no-process")
class UnreadDiffsLeaveAProcess(Broken):
    """A program runs until its Diff was read to the end."""

    def diff(self, id: str, parent: str) -> ClosableStream:
        return _Running(super().diff(id, parent))


class _Running:
    _left: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, whole: ClosableStream) -> None:
        self._whole = whole
        self._program = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        self._left.append(self._program)

    def read(self, n: int, /) -> bytes:
        piece = self._whole.read(n)
        if not piece:
            self._program.communicate()
        return piece

    def close(self) -> None:
        self._whole.close()


@caught_by("leftovers/descriptors-do-not-grow")
class GetsLeaveADescriptor(Broken):
    """Every Get opens a file that nobody closes."""

    def get(self, id: str, mount_label: str) -> str:
        os.open("/dev/null", os.O_RDONLY)
        return super().get(id, mount_label)
