"""Looking up the layers below while a layer is stored, with a note of each answer.

They are opened only if the tar needs them.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Self

from graphdriver.layer.attributes import content_of
from graphdriver.layer.erofs import facts
from graphdriver.layer.erofs.bounds import ITEM, Budget, CannotHoldError
from graphdriver.layer.erofs.record import FACTS_MAX
from graphdriver.layer.erofs.tree import Directory, Inode
from graphdriver.layer.overlay.lowers import Level
from graphdriver.layer.overlay.whiteout import TRUSTED
from graphdriver.layer.tree.directory import Dir
from graphdriver.linux import xattr
from graphdriver.linux.regular_file import open_regular

OpenBelow = Callable[[], AbstractContextManager[Sequence[int]]]
"""Opens the roots of the layers below, nearest first, for the length of a ``with`` block."""


class LayersBelow:
    """The merged view of the layers below, which are read-only.

    Args:
        open_below: opens them.
        budget: what the facts may cost.

    Attributes:
        facts: what was looked up: paths to `graphdriver.layer.erofs.facts`.
        names_matter: whether more was looked up than the metadata of the root.
    """

    def __init__(self, open_below: OpenBelow, budget: Budget) -> None:
        self.facts: dict[bytes, str] = {}
        self.names_matter = False
        self._facts_size = 0
        self._open = open_below
        self._budget = budget
        self._held = contextlib.ExitStack()
        self._roots: Sequence[int] | None = None
        self._path: list[bytes] | None = None
        self._parts: list[tuple[int, Dir]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close_parts()
        self._held.close()

    def has_directory(self, path: list[bytes]) -> bool:
        """Tell whether they show a directory there; there is a root if there are any layers."""
        self._go_to(path)
        if not self._parts:
            return False
        name = b"/".join(path)
        if name not in self.facts:  # the fact of a copy says more
            self._note(name, facts.IS_DIRECTORY)
        return True

    def root(self) -> Directory | None:
        """Return a copy of the root, empty; None if there are no layers."""
        roots = self._opened()
        if not roots:
            self._note(b"", facts.ABSENT)
            return None
        copy = _directory(os.fstat(roots[0]), xattr.get_all(roots[0]))
        self._note(b"", facts.fact_of(copy))
        return copy

    def copy(self, path: list[bytes], name: bytes, *, on_way: bool) -> Directory | Inode | None:
        """Return a copy of what they show at a name, without content.

        Args:
            path: its directory.
            name: the name.
            on_way: copy only a directory or a symbolic link.

        Returns:
            None if there is nothing that could be copied.
        """
        self._go_to(path)
        if not self._parts:
            return None
        below = Level(self._parts, TRUSTED).look(name)
        # A tar cannot hold a socket, so no entry can depend on one.
        can_copy = below is not None and not stat.S_ISSOCK(below.stat.st_mode)
        if below is not None and on_way:
            can_copy = stat.S_ISDIR(below.stat.st_mode) or stat.S_ISLNK(below.stat.st_mode)
        whole = b"/".join([*path, name])
        if below is None or not can_copy:
            if whole not in self.facts:  # a name that is a file may be needed as a target, too
                self._note(whole, facts.ABSENT)
            return None
        attributes = xattr.get_all_at(below.dir.fd, name)
        if stat.S_ISDIR(below.stat.st_mode):
            directory = _directory(below.stat, attributes)
            self._note(whole, facts.fact_of(directory))
            return directory
        inode = _inode(below.stat, attributes)
        if stat.S_ISLNK(inode.mode):
            inode.data = os.readlink(name, dir_fd=below.dir.fd)
        if not stat.S_ISREG(inode.mode):
            self._note(whole, facts.fact_of(inode))
        return inode

    def open_file(self, path: list[bytes], name: bytes) -> int:
        """Open a regular file that was copied, to read its data; the caller closes it."""
        self._go_to(path)
        below = Level(self._parts, TRUSTED).look(name)
        if below is None:
            raise CannotHoldError("a file of the layers below vanished")
        return open_regular(below.dir.fd, name)

    def note_file(self, path: list[bytes], name: bytes, inode: Inode, digest: bytes) -> None:
        """Note a file that was copied, with the SHA-256 of its data."""
        self._note(b"/".join([*path, name]), facts.fact_of(inode, digest))

    def _note(self, path: bytes, fact: str) -> None:
        # As in the record, where a byte that is not text takes six.
        size = len(json.dumps(os.fsdecode(path))) + len(fact)
        self._facts_size += size
        if self._facts_size > FACTS_MAX:
            raise CannotHoldError("it depends on too much of the layers below")
        self._budget.spend(2 * ITEM + size)
        self.facts[path] = fact

    def _opened(self) -> Sequence[int]:
        if self._roots is None:
            self._roots = self._held.enter_context(self._open())
        return self._roots

    def _go_to(self, path: list[bytes]) -> None:
        """Open a directory in all layers that are merged in it; a directory below costs less."""
        self.names_matter = True
        if self._path is None or path[: len(self._path)] != self._path:
            self._path = None
            roots = enumerate(self._opened())
            self._open_parts([(layer, fd, b".") for layer, fd in roots])
            if not self._parts and b"" not in self.facts:
                self._note(b"", facts.ABSENT)
            self._path = []
        for name in path[len(self._path) :]:
            if self._parts:
                below = Level(self._parts, TRUSTED).look(name)
                layers = below.layers if below else ()
                self._open_parts(
                    [(layer, one.fd, name) for layer, one in self._parts if layer in layers]
                )
                here = b"/".join([*self._path, name])
                if not self._parts and here not in self.facts:
                    self._note(here, facts.ABSENT)  # so is all that could be in it
            self._path.append(name)

    def _open_parts(self, places: list[tuple[int, int, bytes]]) -> None:
        with contextlib.ExitStack() as opened:
            parts = [(layer, opened.enter_context(Dir.at(fd, name))) for layer, fd, name in places]
            opened.pop_all()
        self._close_parts()
        self._parts = parts

    def _close_parts(self) -> None:
        for _, directory in self._parts:
            directory.close()
        self._parts = []


def _directory(found: os.stat_result, attributes: dict[bytes, bytes]) -> Directory:
    content = content_of(attributes)
    return Directory(found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, content or None)


def _inode(found: os.stat_result, attributes: dict[bytes, bytes]) -> Inode:
    """Return a copy of anything else, but for a link's target and a file's data."""
    content = content_of(attributes)
    inode = Inode(found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, found.st_size)
    inode.rdev = found.st_rdev
    inode.xattrs = content or None
    return inode
