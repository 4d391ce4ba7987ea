"""Copies of single entries of a tree, unchanged and by descriptor.

A copy keeps content (holes too), type, mode with set-id bits, owner, times to the nanosecond (of links
and directories too), extended attributes that are content, and device numbers. Devices and FIFOs are
created again, never opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from graphdriver.layer.attributes import content_of
from graphdriver.linux import reflink, xattr
from graphdriver.linux.acl import drop_acl
from graphdriver.linux.regular_file import open_regular

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Copier:
    """A copier between two trees, which remembers whether their files can share blocks."""

    def __init__(self) -> None:
        self._clones = True

    def copy(
        self,
        source_fd: int,
        name: bytes,
        found: os.stat_result,
        target_fd: int,
        *,
        inherits: bool = False,
    ) -> None:
        """Copy anything but a directory or a socket, under the same name.

        Args:
            source_fd: the directory of the original; borrowed.
            name: its name there; it must be free in the target.
            found: the result of lstat(2) for it.
            target_fd: the directory of the copy; borrowed.
            inherits: new files in that directory inherit an access control list.

        Raises:
            OSError: it cannot be read or kept.
        """
        if stat.S_ISREG(found.st_mode):
            self._copy_file(source_fd, name, target_fd, inherits)
            return
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
        else:
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target_fd)
        source = os.open(name, _PATH, dir_fd=source_fd)
        try:
            attributes = xattr.get_all(xattr.path_of(source))
        finally:
            os.close(source)
        made = os.open(name, _PATH, dir_fd=target_fd)
        try:
            path = xattr.path_of(made)
            if inherits and not stat.S_ISLNK(found.st_mode):
                drop_acl(path)
            _copy_to_path(path, found, attributes)
        finally:
            os.close(made)

    def _copy_file(self, source_fd: int, name: bytes, target_fd: int, inherits: bool) -> None:
        source = open_regular(source_fd, name)
        try:
            made = os.open(name, _WRITE, 0o600, dir_fd=target_fd)
            try:
                found = os.fstat(source)
                if found.st_size:
                    self._clones = self._clones and reflink.clone(made, source)
                    if not self._clones:
                        reflink.copy(made, source, found.st_size)
                if inherits:
                    drop_acl(made)
                copy_metadata(made, found, xattr.get_all(source))
            finally:
                os.close(made)
        finally:
            os.close(source)


def copy_metadata(fd: int, found: os.stat_result, attributes: Mapping[bytes, bytes]) -> None:
    """Copy the metadata of another file or directory to an open one.

    Args:
        fd: the open one; borrowed.
        found: the result of stat(2) for the other one.
        attributes: the extended attributes of the other one; those that are content are copied.

    Raises:
        OSError: it cannot be kept.
    """
    # In this order: chown(2) drops set-id bits and file capabilities, and every step changes times.
    os.fchown(fd, found.st_uid, found.st_gid)
    os.fchmod(fd, stat.S_IMODE(found.st_mode))
    for name, value in content_of(attributes).items():
        xattr.set(fd, name, value)
    os.utime(fd, ns=(found.st_atime_ns, found.st_mtime_ns))


def _copy_to_path(path: bytes, found: os.stat_result, attributes: Mapping[bytes, bytes]) -> None:
    """Set the metadata of a link, device or FIFO through the path of its descriptor."""
    os.chown(path, found.st_uid, found.st_gid)
    if not stat.S_ISLNK(found.st_mode):  # a link has no mode of its own
        os.chmod(path, stat.S_IMODE(found.st_mode))
    for name, value in content_of(attributes).items():
        xattr.set(path, name, value)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
