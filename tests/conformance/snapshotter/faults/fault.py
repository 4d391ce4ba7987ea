"""What a fault is planted in: snapshots over a driver, which work."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from graphdriver.abilities import Mount
from graphdriver.containerd.diff.differ import Differ
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.driver import ProtoDriver
from graphdriver.drivers.vfs.driver import VfsDriver
from tests.conformance.kit.fault import Faults

Labels = Mapping[str, str]


class Broken(Snapshots):
    """Snapshots that work; a fault overrides what it breaks."""

    good: ClassVar[Callable[[], ProtoDriver]] = VfsDriver
    differ: ClassVar[type[Differ]] = Differ

    def __init__(self, root: str) -> None:
        self.driver = type(self).good()
        super().__init__(self.driver, root, ["sync=none"])


class Spoiled(Broken):
    """Something is done to the tree of each snapshot that has a parent, just before its Commit."""

    def commit(self, name: str, key: str, labels: Labels, parent: str = "") -> None:
        found = self.stat(key)
        if found.layer and found.parent_layer:
            trees = [Path(self.driver.get(id, "")) for id in (found.layer, found.parent_layer)]
            self.spoil(*trees)
            for id in (found.layer, found.parent_layer):
                self.driver.put(id)
        super().commit(name, key, labels, parent)

    def spoil(self, tree: Path, below: Path) -> None:
        raise NotImplementedError


class Shown(Broken):
    """What Prepare and View answer is changed."""

    def prepare(self, key: str, parent: str, labels: Labels) -> Sequence[Mount]:
        return self.changed(super().prepare(key, parent, labels))

    def view(self, key: str, parent: str, labels: Labels) -> Sequence[Mount]:
        return self.changed(super().view(key, parent, labels))

    def changed(self, mounts: Sequence[Mount]) -> Sequence[Mount]:
        raise NotImplementedError


FAULTS: Faults[Broken] = Faults()
"""All of them, once the modules of this package are imported."""

caught_by = FAULTS.caught_by


def files(root: Path) -> list[Path]:
    """Return all regular files of a tree."""
    return [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]


def strip(path: Path) -> None:
    """Take all attributes from a file or a directory."""
    for name in os.listxattr(path, follow_symlinks=False):
        os.removexattr(path, name, follow_symlinks=False)
