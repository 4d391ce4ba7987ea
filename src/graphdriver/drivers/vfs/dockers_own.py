"""The layout of Docker's own vfs: a layer is the directory ``dir/ID`` of a home, and nothing else.

The source of the rule is moby's ``daemon/graphdriver/vfs/driver.go``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from graphdriver.drivers.vfs.reading import ROOT, note_moved
from graphdriver.files.directories import opened
from graphdriver.homes import DockersOwn, StoredLayer
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.tree_copy import copy_tree

_LAYERS: Final = "dir"


class DockersVfs(DockersOwn):
    """See `graphdriver.homes.DockersOwn`. A unit is a layer's tree."""

    def layers(self, home: str) -> Iterator[StoredLayer]:
        """Yield the layers in a home of Docker's own driver, which may be incomplete."""
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = os.listdir(f"{home}/{_LAYERS}")
        for id in names:
            yield StoredLayer(id, None, self.unit(home, id, is_dockers=True))

    def unit(self, home: str, id: str, *, is_dockers: bool) -> str:
        """Return the path of a layer's tree."""
        return f"{home}/{_LAYERS}/{id}" if is_dockers else f"{home}/{id}/{ROOT}"

    def make_place(self, home: str, id: str, parent: str, group: int, *, is_dockers: bool) -> None:
        """Make the home, and the layer's own directory if it has one."""
        inner = f"{home}/{_LAYERS}" if is_dockers else f"{home}/{id}"
        for path in (home, inner):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o710)
            os.chown(path, -1, group)
        if not is_dockers:
            note_moved(inner, parent)

    def copy(self, unit: str, target: str, *, is_written: bool) -> None:
        """Copy the tree; unchanged blocks are shared where the filesystem can (reflink)."""
        os.mkdir(target, 0o700)
        with opened(unit) as original, opened(target) as made:
            copy_tree(original, made)

    def complete(self, home: str, *, is_dockers: bool) -> None:
        """Do nothing: a home holds its layers alone."""

    def why_unusable(self, unit: str) -> str:
        """Return nothing: a tree is a tree."""
        return ""

    def remove(self, directory: str, name: str) -> None:
        """Remove a directory."""
        with opened(directory) as fd:
            remove_tree(fd, os.fsencode(name))
