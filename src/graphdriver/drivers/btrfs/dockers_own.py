"""The layout of Docker's own btrfs driver: a layer is the subvolume ``subvolumes/ID`` of a home.

``quotas`` has the sizes that were set; btrfs itself keeps the limits. The source of the rules is moby's
``daemon/graphdriver/btrfs/btrfs.go``.
"""

from __future__ import annotations

import os
import stat
from typing import ClassVar, Final

from graphdriver.drivers.btrfs import subvolumes
from graphdriver.drivers.btrfs.subvolumes import ROOT
from graphdriver.drivers.dockers_trees import DockersTrees
from graphdriver.files.directories import opened
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.linux import btrfs

_DEPTH: Final = 3
"""How many directories are above a subvolume at most: ``HOME/.trash/NAME/root``."""


class DockersBtrfs(DockersTrees):
    """See `graphdriver.homes.DockersOwn`. A layer's tree is a subvolume."""

    layers_name: ClassVar[str] = "subvolumes"
    tree_name: ClassVar[str] = ROOT

    def copy(self, unit: str, target: str, *, is_written: bool) -> None:
        """Make a snapshot, of inner subvolumes too."""
        above, name = os.path.split(target)
        with opened(unit) as original, opened(above) as directory:
            subvolumes.snapshot(original, directory, os.fsencode(name))

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
