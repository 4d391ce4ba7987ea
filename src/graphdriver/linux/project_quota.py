"""Project quotas: a limit for what some folders hold together (ext4, XFS).

A directory is given a project number that all in it inherits (`graphdriver.linux.projects`); the
filesystem then holds the project to a limit (quotactl_fd(2), Linux 5.14, with XFS's commands, which
ext4 takes as well). The filesystem must be mounted with ``prjquota`` (``pquota`` on XFS).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence

from graphdriver.errors import UnsupportedError
from graphdriver.linux.libc import libc
from graphdriver.linux.projects import attributes_of, set_attributes

_SYS_QUOTACTL_FD = 443
_PRJQUOTA = 2
_Q_XSETQLIM = 0x5804
_SUBCMD_SHIFT = 8
_BLOCK = 512  # in which XFS's commands count

_FS_DQUOT_VERSION = 1
_FS_PROJ_QUOTA = 2
_FS_DQ_BSOFT, _FS_DQ_BHARD = 1 << 2, 1 << 3
_LIMIT = struct.Struct("=bbHIQQQQQQiiHHiQQQiHh8s")
"""struct fs_disk_quota (linux/dqblk_xfs.h): version, flags, fieldmask, id, hard and soft limits of
blocks and inodes, and what is reported back."""


def limit_of(project: int, size: int) -> bytes:
    """Return the ``fs_disk_quota`` that limits a project to so many bytes."""
    blocks = -(-size // _BLOCK)
    fields = _FS_DQ_BSOFT | _FS_DQ_BHARD
    rest = (0,) * 15
    return _LIMIT.pack(
        _FS_DQUOT_VERSION, _FS_PROJ_QUOTA, fields, project, blocks, blocks, *rest, bytes(8)
    )


def command_of(subcommand: int) -> int:
    """Return quotactl(2)'s command word for project quotas."""
    return subcommand << _SUBCMD_SHIFT | _PRJQUOTA


def limit_tree(folders: Sequence[str], size: int) -> None:
    """Limit what new, empty folders of one filesystem will hold together.

    Their project's number is the first one's inode number, which nothing else on the filesystem has
    as long as it is there.

    Args:
        folders: their paths.
        size: in bytes.

    Raises:
        UnsupportedError: the filesystem has no project quotas.
        OSError: they cannot be set.
    """
    project = os.stat(folders[0]).st_ino & 0xFFFFFFFF
    try:
        for folder in folders:
            _join_project(folder, project)
        _set_limit(folders[0], project, size)
    except OSError as error:
        if error.errno not in {
            errno.ENOTTY,
            errno.EOPNOTSUPP,
            errno.ENOSYS,
            errno.ESRCH,
            errno.EINVAL,
        }:
            raise
        raise UnsupportedError(
            "the filesystem has no project quotas, so a layer's size cannot be limited"
            f" ({error.strerror})",
            hint="leave size= out, or use XFS mounted with pquota, or ext4 with prjquota",
        ) from error


def _join_project(folder: str, project: int) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        set_attributes(fd, attributes_of(fd).handing_on(project))
    finally:
        os.close(fd)


def _set_limit(folder: str, project: int, size: int) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        limit = ctypes.create_string_buffer(limit_of(project, size))
        command = ctypes.c_uint(command_of(_Q_XSETQLIM))
        if libc.syscall(_SYS_QUOTACTL_FD, fd, command, project, limit):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), folder)
    finally:
        os.close(fd)
