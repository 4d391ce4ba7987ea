"""The layout of Docker's own btrfs driver: a layer is the subvolume ``subvolumes/ID`` of a home.

``quotas`` has the sizes that were set; btrfs itself keeps the limits. The source of the rules is moby's
``daemon/graphdriver/btrfs/btrfs.go``.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Final

from graphdriver.drivers.btrfs import subvolumes
from graphdriver.drivers.btrfs.subvolumes import ROOT
from graphdriver.files.directories import opened
from graphdriver.homes import DockersOwn, StoredLayer
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.linux import btrfs

_LAYERS: Final = "subvolumes"
_DEPTH: Final = 3
"""How many directories are above a subvolume at most: ``HOME/.trash/NAME/root``."""


class DockersBtrfs(DockersOwn):
    """See `graphdriver.homes.DockersOwn`. A unit is a layer's subvolume."""

    def layers(self, home: str) -> Iterator[StoredLayer]:
        """Yield the layers in a home of Docker's own driver, which may be incomplete."""
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = os.listdir(f"{home}/{_LAYERS}")
        for id in names:
            yield StoredLayer(id, None, self.unit(home, id, is_dockers=True))

    def unit(self, home: str, id: str, *, is_dockers: bool) -> str:
        """Return the path of a layer's subvolume."""
        return f"{home}/{_LAYERS}/{id}" if is_dockers else f"{home}/{id}/{ROOT}"

    def make_place(self, home: str, id: str, parent: str, group: int, *, is_dockers: bool) -> None:
        """Make the home, and the layer's own directory if it has one."""
        for path in (home, f"{home}/{_LAYERS}" if is_dockers else f"{home}/{id}"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o710)
            os.chown(path, -1, group)

    def copy(self, unit: str, target: str, *, is_written: bool) -> None:
        """Make a snapshot, of inner subvolumes too."""
        above, name = os.path.split(target)
        with opened(unit) as original, opened(above) as directory:
            subvolumes.snapshot(original, directory, os.fsencode(name))

    def complete(self, home: str, *, is_dockers: bool) -> None:
        """Do nothing: a home holds its layers alone."""

    def why_unusable(self, unit: str) -> str:
        """Return nothing: both make snapshots of subvolumes."""
        return ""

    def remove(self, directory: str, name: str) -> None:
        """Remove a directory and the subvolumes in it, or a subvolume."""
        with opened(directory) as fd:
            _destroy_in(fd, os.fsencode(name), _DEPTH)
            remove_tree(fd, os.fsencode(name))


def _destroy_in(dir_fd: int, name: bytes, depth: int) -> None:
    """Destroy the subvolume at a name, or those in some directories below it."""
    try:
        if not stat.S_ISDIR(os.lstat(name, dir_fd=dir_fd).st_mode):
            return
    except FileNotFoundError:
        return
    with opened(name, dir_fd=dir_fd) as fd:
        is_subvolume = btrfs.is_subvolume(fd)
        if not is_subvolume and depth:
            for inner in os.listdir(fd):
                _destroy_in(fd, os.fsencode(inner), depth - 1)
    if is_subvolume:
        subvolumes.destroy(dir_fd, name)
