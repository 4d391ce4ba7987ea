"""What is the same of Docker's own drivers that keep each layer as one tree: vfs and btrfs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import ClassVar

from graphdriver.homes import DockersOwn, StoredLayer


class DockersTrees(DockersOwn):
    """See `graphdriver.homes.DockersOwn`. A unit is a layer's tree.

    Attributes:
        layers_name: the directory of a home in which Docker's driver keeps the trees, by their IDs.
        tree_name: the name of a tree in the layer's own directory, as our driver keeps it.
    """

    layers_name: ClassVar[str]
    tree_name: ClassVar[str]

    def layers(self, home: str) -> Iterator[StoredLayer]:
        """Yield the layers in a home of Docker's own driver, which may be incomplete."""
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = os.listdir(f"{home}/{self.layers_name}")
        for id in names:
            yield StoredLayer(id, None, self.unit(home, id, is_dockers=True))

    def unit(self, home: str, id: str, *, is_dockers: bool) -> str:
        """Return the path of a layer's tree."""
        inner = f"{self.layers_name}/{id}" if is_dockers else f"{id}/{self.tree_name}"
        return f"{home}/{inner}"

    def make_place(self, home: str, id: str, parent: str, group: int, *, is_dockers: bool) -> None:
        """Make the home, and the layer's own directory if it has one."""
        for path in (home, os.path.dirname(self.unit(home, id, is_dockers=is_dockers))):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o710)
            os.chown(path, -1, group)

    def complete(self, home: str, *, is_dockers: bool) -> None:
        """Do nothing: a home holds its layers alone."""

    def why_unusable(self, unit: str) -> str:
        """Return nothing: a tree is a tree."""
        return ""
