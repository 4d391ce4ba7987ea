"""Where an attack takes place: a canary, a parent, and the layer, side by side."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from graphdriver.layer.change_list import ChangeList
from graphdriver.layer.changes import compare
from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.overlay.whiteout import TRUSTED
from graphdriver.layer.pack import pack
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.tree_copy import copy_tree
from graphdriver.layer.tree.walk import Node, walk
from graphdriver.layer.unpack import unpack
from graphdriver.layer.write.form import Form
from graphdriver.layer.write.plain_tree import PlainTree
from graphdriver.linux import xattr
from graphdriver.linux.regular_file import open_regular
from tests.support.canary import Canary
from tests.support.opens import watched

OVERLAY_OPTIONS = "redirect_dir=nofollow,metacopy=off,index=off"


class Ground:
    """One attack's place.

    Args:
        folder: an empty one.
        form: what the trees are.
    """

    def __init__(self, folder: Path, form: type[UpperDirectory | PlainTree]) -> None:
        self.folder = folder
        self.form = form
        self.canary = Canary.hatch(folder / "canary")
        self.parent = folder / "parent"
        self.layer = folder / "layer"
        self.parent.mkdir()
        self.layer.mkdir()

    def prepare(self, tar: bytes) -> None:
        """Make the parent of a tar, and begin the layer upon it."""
        self._unpack(self.parent, tar)
        if self.form is not UpperDirectory:
            with opened(self.parent) as parent, opened(self.layer) as layer:
                copy_tree(parent, layer)

    def apply(self, tar: bytes) -> None:
        """Apply a tar to the layer; nothing that was there before may be opened for it.

        But a file that a hard link goes to is copied into an upper folder.
        """
        before = self._record_of_parent()
        with opened(self.parent) as parent, opened(self.layer) as layer:
            doors = itertools.chain(self._doors(parent), self._doors(layer))
            with watched(doors) as used:
                try:
                    self._unpack(self.layer, tar, parent)
                finally:
                    assert self._record_of_parent() == before
        assert used == []

    def _record_of_parent(self) -> list[tuple[bytes, tuple[object, ...]]]:
        """Return the parent's tree with all that a write to it would change."""
        with opened(self.parent) as parent:
            return [
                (node.path, (*node.stat[:7], node.stat.st_mtime_ns, node.stat.st_ctime_ns))
                for node in walk(parent)
            ]

    @contextlib.contextmanager
    def shown(self) -> Iterator[int]:
        """Open the root that a container would see."""
        if self.form is not UpperDirectory:
            with opened(self.layer) as root:
                yield root
            return
        work, merged = self.folder / "work", self.folder / "merged"
        work.mkdir()
        merged.mkdir()
        options = f"lowerdir={self.parent},upperdir={self.layer},workdir={work},{OVERLAY_OPTIONS}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "none", str(merged)], check=True)
        try:
            with opened(merged) as root:
                yield root
        finally:
            subprocess.run(["umount", str(merged)], check=True)

    def packed(self, root: int) -> bytes:
        """Return what a Diff would send of what a container sees, whole and against the parent."""
        with opened(self.parent) as parent:
            listed = ChangeList(compare(root, parent))
        found = b""
        for what in (None, listed):
            stream = pack(root, what)
            while piece := stream.read(1 << 20):
                found += piece
            stream.close()
        return found

    def orders(self) -> set[bytes]:
        """Return those attributes in the layer on disk that an overlay may obey, but its own marks."""
        found: set[bytes] = set()
        with opened(self.layer) as layer:
            found.update(xattr.get_all(layer))
            for node in walk(layer):
                found.update(xattr.get_all_at(node.parent_fd, node.name))
        own = {TRUSTED.opaque} if self.form is UpperDirectory else set()
        return {name for name in found - own if b"overlay" in name}

    def remove(self) -> None:
        """Remove the layers as a store does."""
        with opened(self.folder) as folder:
            for name in (b"layer", b"parent", b"work", b"merged"):
                remove_tree(folder, name)

    def _doors(self, root: int) -> Iterator[bytes]:
        """Yield a way to all in a tree that must not be opened."""
        others = {stat.S_IFDIR, stat.S_IFLNK}
        if self.form is UpperDirectory:
            others.add(stat.S_IFREG)
        for node in walk(root):
            if stat.S_IFMT(node.stat.st_mode) not in others:
                yield b"/proc/self/fd/%d/%b" % (node.parent_fd, node.name)

    def _unpack(self, tree: Path, tar: bytes, *lowers: int) -> None:
        def form(root: int) -> Form:
            return UpperDirectory(root, lowers) if self.form is UpperDirectory else self.form(root)

        with opened(tree) as root:
            unpack(io.BytesIO(tar), root, form=form)


def content_of(root: int) -> dict[bytes, bytes]:
    """Return what is in a tree, by name: of files their content, of links their text."""
    return {node.path: _read(node) for node in walk(root)}


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Open a folder for a while."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def _read(node: Node) -> bytes:
    if stat.S_ISLNK(node.stat.st_mode):
        return os.readlink(node.name, dir_fd=node.parent_fd)
    if not stat.S_ISREG(node.stat.st_mode):
        return b""
    with open(open_regular(node.parent_fd, node.name), "rb") as file:
        return file.read()
