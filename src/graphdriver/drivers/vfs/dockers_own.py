"""The layout of Docker's own vfs: a layer is the directory ``dir/ID`` of a home, and nothing else.

The source of the rule is moby's ``daemon/graphdriver/vfs/driver.go``.
"""

from __future__ import annotations

import os
from typing import ClassVar

from graphdriver.drivers.dockers_trees import DockersTrees
from graphdriver.drivers.vfs.reading import ROOT, note_moved
from graphdriver.files.directories import opened
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.tree_copy import copy_tree


class DockersVfs(DockersTrees):
    """See `graphdriver.homes.DockersOwn`."""

    layers_name: ClassVar[str] = "dir"
    tree_name: ClassVar[str] = ROOT

    def make_place(self, home: str, id: str, parent: str, group: int, *, is_dockers: bool) -> None:
        """Make the home, and the layer's own directory if it has one."""
        super().make_place(home, id, parent, group, is_dockers=is_dockers)
        if not is_dockers:
            note_moved(f"{home}/{id}", parent)

    def copy(self, unit: str, target: str, *, is_written: bool) -> None:
        """Copy the tree; unchanged blocks are shared where the filesystem can (reflink)."""
        os.mkdir(target, 0o700)
        with opened(unit) as original, opened(target) as made:
            copy_tree(original, made)

    def remove(self, directory: str, name: str) -> None:
        """Remove a directory."""
        with opened(directory) as fd:
            remove_tree(fd, os.fsencode(name))
