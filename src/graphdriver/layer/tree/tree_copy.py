"""A copy of a layer's whole tree, by descriptors (`graphdriver.layer.tree.copy`).

Hard links stay hard links. A file with several names is also linked in a temporary directory of the
copy until the last name is made. So each link takes one call and no path, at any depth.

Sockets are left out, since a tar cannot hold them.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping

from graphdriver.layer.tree.copy import Copier, copy_metadata
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.trail import Trail
from graphdriver.layer.tree.walk import Node, walk
from graphdriver.linux import xattr

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(source_fd: int, target_fd: int) -> None:
    """Copy the contents and the metadata of ``source_fd`` into the empty directory ``target_fd``.

    Raises:
        OSError: something cannot be read or written.
        BrokenStreamError: directories of the source were moved meanwhile.
    """
    TreeCopy(source_fd, target_fd).run()


class TreeCopy:
    """One copy of a tree.

    Args:
        source_fd: the root of the original; borrowed.
        target_fd: the empty root of the copy; borrowed.
    """

    def __init__(self, source_fd: int, target_fd: int) -> None:
        self._source_fd = source_fd
        self._target_fd = target_fd
        self._links = _Links(target_fd)
        self._copier = Copier()

    def run(self) -> None:
        """Copy everything.

        Raises:
            OSError: something cannot be read or written.
            BrokenStreamError: directories of the source were moved meanwhile.
        """
        try:
            self._walk()
        finally:
            self._links.close()
        source = self._source_fd
        self.copy_metadata(self._target_fd, os.fstat(source), xattr.get_all(source))

    def _walk(self) -> None:
        """Walk through the source, and through the target along with it.

        A directory gets its metadata when it is left, since what is made in it changes its times.
        """
        at: list[tuple[os.stat_result, dict[bytes, bytes]]] = []
        with Trail(self._target_fd) as trail:
            for node in walk(self._source_fd):
                while len(at) > node.above.depth:
                    self._leave(trail, at)
                if stat.S_ISDIR(node.stat.st_mode):
                    os.mkdir(node.name, 0o700, dir_fd=trail.here.fd)
                    directory = os.open(node.name, _DIRECTORY, dir_fd=node.parent_fd)
                    try:
                        at.append((node.stat, xattr.get_all(directory)))
                    finally:
                        os.close(directory)
                    trail.enter(node.name)
                else:
                    self.copy_file(node, trail.here.fd)
            while at:
                self._leave(trail, at)

    def _leave(self, trail: Trail, at: list[tuple[os.stat_result, dict[bytes, bytes]]]) -> None:
        self.copy_metadata(trail.here.fd, *at.pop())
        trail.leave()

    def copy_metadata(
        self, fd: int, found: os.stat_result, attributes: Mapping[bytes, bytes]
    ) -> None:
        """Copy the metadata of a directory; arguments as for `graphdriver.layer.tree.copy`."""
        copy_metadata(fd, found, attributes)

    def copy_file(self, node: Node, directory_fd: int) -> None:
        """Copy anything but a directory.

        Args:
            node: the original.
            directory_fd: the directory of the copy.
        """
        if stat.S_ISSOCK(node.stat.st_mode):
            return
        if node.stat.st_nlink == 1:
            self._copier.copy(node.parent_fd, node.name, node.stat, directory_fd)
        elif not self._links.make(node.stat, node.name, directory_fd):
            self._copier.copy(node.parent_fd, node.name, node.stat, directory_fd)
            self._links.keep(node.stat, node.name, directory_fd)


class _Links:
    """The copies of files with several names, by the inodes of the originals.

    Args:
        target_fd: the root of the copy. The first link makes a directory for the links in it; `close`
            removes it.
    """

    def __init__(self, target_fd: int) -> None:
        self._target_fd = target_fd
        self._name = b".links-" + secrets.token_hex(16).encode()
        self._fd = -1
        self._to_come: dict[bytes, int] = {}

    def keep(self, found: os.stat_result, name: bytes, directory_fd: int) -> None:
        """Keep a copy that was just made, so that it can get its further names."""
        if self._fd < 0:
            os.mkdir(self._name, 0o700, dir_fd=self._target_fd)
            self._fd = os.open(self._name, _DIRECTORY, dir_fd=self._target_fd)
        kept = _kept(found)
        os.link(name, kept, src_dir_fd=directory_fd, dst_dir_fd=self._fd, follow_symlinks=False)
        self._to_come[kept] = found.st_nlink - 1

    def make(self, found: os.stat_result, name: bytes, directory_fd: int) -> bool:
        """Give a further name to a copy; return False if the file was not copied yet."""
        kept = _kept(found)
        to_come = self._to_come.get(kept)
        if to_come is None:
            return False
        if to_come > 1:
            self._to_come[kept] = to_come - 1
            os.link(kept, name, src_dir_fd=self._fd, dst_dir_fd=directory_fd, follow_symlinks=False)
        else:  # by rename: the file may already have as many names as the filesystem allows
            del self._to_come[kept]
            os.rename(kept, name, src_dir_fd=self._fd, dst_dir_fd=directory_fd)
        return True

    def close(self) -> None:
        """Remove the directory for the links."""
        if self._fd >= 0:
            os.close(self._fd)
            remove_tree(self._target_fd, self._name)


def _kept(found: os.stat_result) -> bytes:
    return b"%d-%d" % (found.st_dev, found.st_ino)
