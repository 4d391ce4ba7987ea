"""Homes of Docker's own storage drivers, only read: each layer as Docker shows it.

Nothing in such a home is written, not even by a mount: an overlay is mounted below
``/run/graphdriver/read``, read-only.

- overlay2: ``ID/diff`` on the layers that ``ID/lower`` lists. Docker leaves ``redirect_dir`` and
  ``metacopy`` to the kernel, whose defaults a distribution or an administrator may have changed. So an
  upper directory may hold their marks, which our own mounts do not follow: here both are followed.
- vfs: ``dir/ID``, btrfs: ``subvolumes/ID``; each is a whole tree.

The source of these rules is moby's ``daemon/graphdriver/{overlay2,vfs,btrfs}``.
"""

# ruff: noqa: D102 - graphdriver.driver documents the methods
from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from graphdriver.driver import ClosableStream, Driver, ProtoDriver
from graphdriver.drivers.overlay.kernel_mounter import KernelMounter
from graphdriver.drivers.overlay.layout import DIFF, Layout
from graphdriver.drivers.overlay.mounter import Overlay
from graphdriver.errors import LayerNotFoundError, UnsupportedError
from graphdriver.files.directories import make_directories, make_own, opened
from graphdriver.files.runtime_directory import RUNTIME, file_name
from graphdriver.layer.overlay.pack import UpperPacker
from graphdriver.layer.overlay.unfollowed import survey
from graphdriver.layer.overlay.whiteout import USER
from graphdriver.linux.mount import unmount
from graphdriver.naive import NaiveDiffDriver

_POINTS: Final = f"{RUNTIME}/read"
"""Where layers are mounted."""

_FOLLOWING: Final = ("redirect_dir=on", "metacopy=on")


class _Unchangeable(ProtoDriver):
    """A driver that makes and removes no layer."""

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        raise UnsupportedError("a home of Docker's own driver is only read")

    def remove(self, id: str) -> None:
        raise UnsupportedError("a home of Docker's own driver is only read")


class PlainTrees(_Unchangeable):
    """The layers of Docker's vfs or btrfs.

    Args:
        directory: the directory in which each layer has its tree.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def get(self, id: str, mount_label: str) -> str:
        if not self.exists(id):
            raise LayerNotFoundError(f"{self._path(id)} does not exist")
        return self._path(id)

    def put(self, id: str) -> None:
        """Do nothing: nothing was mounted."""

    def exists(self, id: str) -> bool:
        return os.path.isdir(self._path(id))

    def _path(self, id: str) -> str:
        return os.path.join(self._directory, id)


@dataclass(slots=True)
class _Mounted:
    """A mounted layer: where, and how many gets it has."""

    point: str
    gets: int


class OverlayTrees(_Unchangeable):
    """The layers of Docker's overlay2.

    Args:
        home: its directory.
    """

    def __init__(self, home: str) -> None:
        home = os.path.realpath(home)
        self._layout = Layout(home)
        self._mounter = KernelMounter(home)
        self._mounted: dict[str, _Mounted] = {}

    def get(self, id: str, mount_label: str) -> str:
        if not self.exists(id):
            raise LayerNotFoundError(f"{self._layout.path(id, DIFF)} does not exist")
        mounted = self._mounted.get(id)
        if mounted:
            mounted.gets += 1
            return mounted.point
        with self._layout.explaining(id):
            lowers = self._layout.lowers(id)
            if not lowers:  # its own directory is the whole tree
                return self._layout.path(id, DIFF)
            point = self._mount(id, lowers)
        self._mounted[id] = _Mounted(point, 1)
        return point

    def _mount(self, id: str, lowers: list[str]) -> str:
        """Mount a layer, and return where."""
        # The same one each time: what a killed process left is used again, and removed.
        point = os.path.join(_POINTS, file_name(self._layout.path(id)))
        make_directories(_POINTS, 0o700)
        make_own(point, 0o700)
        target = os.path.relpath(os.path.realpath(point), self._layout.home)
        # In a user namespace overlayfs follows neither, and its layers have no such marks.
        following = () if self._mounter.marks == USER else _FOLLOWING
        try:
            directories = (f"{id}/{DIFF}", *lowers)
            self._mounter.mount(Overlay(directories, target, options=("ro", *following)))
        except BaseException:
            os.rmdir(point)
            raise
        return point

    def put(self, id: str) -> None:
        mounted = self._mounted.get(id)
        if mounted is None:
            return
        mounted.gets -= 1
        if mounted.gets == 0:
            unmount(mounted.point)
            del self._mounted[id]
            os.rmdir(mounted.point)

    def exists(self, id: str) -> bool:
        return os.path.isdir(self._layout.path(id, DIFF))


class OverlayHome(NaiveDiffDriver):
    """The layers of Docker's overlay2, with their diffs.

    Args:
        home: its directory.
    """

    def __init__(self, home: str) -> None:
        super().__init__(OverlayTrees(home))
        self._layout = Layout(os.path.realpath(home))
        self._marks = KernelMounter(home).marks

    def diff(self, id: str, parent: str) -> ClosableStream:
        with self._layout.explaining(id), opened(self._layout.path(id, DIFF)) as upper:
            is_direct = parent and parent == self._layout.parent_of(id)
            if not is_direct or survey(upper, self._marks).unfollowed:
                return super().diff(id, parent)
            # Its own directory holds exactly the changes, so no trees need be compared.
            return UpperPacker(upper, self._uid_maps, self._gid_maps, self._marks)


def docker_home(driver: str, home: str) -> Driver:
    """Return a driver that reads a home of one of Docker's own.

    Args:
        driver: the driver's name in Docker.
        home: its directory in the data root.

    Raises:
        UnsupportedError: this one of Docker's drivers cannot be read.
    """
    if driver == "overlay2":
        return OverlayHome(home)
    if driver == "vfs":
        return NaiveDiffDriver(PlainTrees(os.path.join(home, "dir")))
    if driver == "btrfs":
        return NaiveDiffDriver(PlainTrees(os.path.join(home, "subvolumes")))
    raise UnsupportedError(
        f"the layers of Docker's {driver} cannot be read",
        hint="save the images with docker save, and load them with the new driver",
    )
