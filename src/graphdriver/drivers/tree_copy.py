"""A faithful copy of a layer's whole tree, by descriptor (`graphdriver.layer.copy`).

Hard-link identity is kept. Sockets are left out: no tar could bring them on.
"""

from __future__ import annotations

import os
import stat

from graphdriver.layer.copy import Copier, dress
from graphdriver.layer.walk import Node, Trail, walk
from graphdriver.linux import xattr

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(source_fd: int, target_fd: int) -> None:
    """Copy all that is below ``source_fd``, and its own metadata, into the empty ``target_fd``.

    Raises:
        OSError: something cannot be read or kept.
        BrokenStreamError: the source was moved about meanwhile.
    """
    _Copy(source_fd, target_fd).run()


class _Copy:
    def __init__(self, source_fd: int, target_fd: int) -> None:
        self._source_fd = source_fd
        self._target_fd = target_fd
        self._names: dict[tuple[int, int], bytes] = {}
        self._copier = Copier()

    def run(self) -> None:
        """Walk the source, and the target along with it.

        A folder gets its metadata when it is left, since what is made in it changes its times.
        """
        at: list[tuple[os.stat_result, dict[bytes, bytes]]] = []
        with Trail(self._target_fd) as trail:
            for node in walk(self._source_fd):
                while len(at) > node.path.count(b"/"):
                    self._leave(trail, at)
                if stat.S_ISDIR(node.stat.st_mode):
                    os.mkdir(node.name, 0o700, dir_fd=trail.fd)
                    folder = os.open(node.name, _FOLDER, dir_fd=node.parent_fd)
                    try:
                        at.append((node.stat, xattr.get_all(folder)))
                    finally:
                        os.close(folder)
                    trail.enter(node.name)
                else:
                    self._copy(node, trail.fd)
            while at:
                self._leave(trail, at)
            dress(trail.fd, os.fstat(self._source_fd), xattr.get_all(self._source_fd))

    def _leave(self, trail: Trail, at: list[tuple[os.stat_result, dict[bytes, bytes]]]) -> None:
        found, attributes = at.pop()
        dress(trail.fd, found, attributes)
        trail.leave()

    def _copy(self, node: Node, target: int) -> None:
        found = node.stat
        if stat.S_ISSOCK(found.st_mode):
            return
        if found.st_nlink > 1:
            first = self._names.setdefault((found.st_dev, found.st_ino), node.path)
            if first != node.path:
                self._link(first, node.name, target)
                return
        self._copier.copy(node.parent_fd, node.name, found, target)

    def _link(self, first: bytes, name: bytes, target: int) -> None:
        """Link to what was copied already; its folder is found piece by piece, never by a path."""
        *folders, last = first.split(b"/")
        with Trail(self._target_fd) as trail:
            for folder in folders:
                trail.enter(folder)
            os.link(last, name, src_dir_fd=trail.fd, dst_dir_fd=target, follow_symlinks=False)
