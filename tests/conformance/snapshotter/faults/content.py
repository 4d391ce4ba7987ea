"""Faults in what a snapshot holds after its Commit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from graphdriver.abilities import Mount
from tests.conformance.snapshotter.faults.fault import (
    Broken,
    Labels,
    Spoiled,
    caught_by,
    files,
    strip,
)


@caught_by("content/chain-of-snapshots")
class OneFileIsLost(Spoiled):
    """The last file of a tree is lost at Commit."""

    def spoil(self, tree: Path, below: Path) -> None:
        if found := files(tree):
            found[-1].unlink()


@caught_by("content/whole-tree-is-kept")
class AttributesAreLost(Spoiled):
    """Extended attributes are lost at Commit."""

    def spoil(self, tree: Path, below: Path) -> None:
        for path in tree.rglob("*"):
            strip(path)


@caught_by("content/siblings-are-apart")
class FilesAreShared(Broken):
    """A new snapshot's files are those of its parent."""

    def prepare(self, key: str, parent: str, labels: Labels) -> Sequence[Mount]:
        mounts = super().prepare(key, parent, labels)
        found = self.stat(key)
        if found.parent_layer:
            tree, below = (
                Path(self.driver.get(id, "")) for id in (found.layer, found.parent_layer)
            )
            for path in files(tree):
                path.unlink()
                os.link(below / path.relative_to(tree), path)
        return mounts


@caught_by("content/directories-are-removed")
class RemovedDirectoriesComeBack(Spoiled):
    """A directory of the layer below is there again after Commit."""

    def spoil(self, tree: Path, below: Path) -> None:
        for path in below.rglob("*"):
            if path.is_dir():
                (tree / path.relative_to(below)).mkdir(parents=True, exist_ok=True)


@caught_by("content/files-of-below-are-renamed")
class OldContentComesBack(Spoiled):
    """A file that the layer below holds too has its content from there."""

    def spoil(self, tree: Path, below: Path) -> None:
        for path in files(tree):
            before = below / path.relative_to(tree)
            if before.is_file():
                path.write_bytes(before.read_bytes())


@caught_by("content/owners-and-modes-change")
class OldOwnersComeBack(Spoiled):
    """What the layer below holds too has its owner from there."""

    def spoil(self, tree: Path, below: Path) -> None:
        for path in tree.rglob("*"):
            before = below / path.relative_to(tree)
            if before.exists() and not path.is_symlink():
                os.chown(path, before.stat().st_uid, before.stat().st_gid)


@caught_by("content/deletions-in-children")
class DeletedFilesComeBack(Spoiled):
    """A file that was deleted is there again after Commit."""

    def spoil(self, tree: Path, below: Path) -> None:
        for path in files(below):
            copy = tree / path.relative_to(below)
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)


@caught_by("content/root-mode-is-kept")
class RootDirectoriesAreReset(Spoiled):
    """Commit makes the root directory 0755."""

    def spoil(self, tree: Path, below: Path) -> None:
        tree.chmod(0o755)
