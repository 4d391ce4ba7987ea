"""Project quotas: a limit for the content of some directories together (ext4, XFS).

A directory gets a project number, which everything in it inherits (`graphdriver.linux.projects`); the
filesystem enforces a limit on the project (quotactl_fd(2), Linux 5.14, with XFS's commands, which ext4
takes as well). The filesystem must be mounted with ``prjquota`` (``pquota`` on XFS).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence

from graphdriver.abilities import Usage
from graphdriver.errors import UnsupportedError
from graphdriver.linux.libc import libc, raise_errno
from graphdriver.linux.projects import attributes_of, set_attributes

_SYS_QUOTACTL_FD = 443
_PRJQUOTA = 2
_Q_XGETQUOTA = 0x5803
_Q_XSETQLIM = 0x5804
_SUBCMD_SHIFT = 8
_BLOCK = 512  # the unit of XFS's commands

_FS_DQUOT_VERSION = 1
_FS_PROJ_QUOTA = 2
_FS_DQ_BSOFT, _FS_DQ_BHARD = 1 << 2, 1 << 3
_LIMIT = struct.Struct("=bbHIQQQQQQiiHHiQQQiHh8s")
"""struct fs_disk_quota (linux/dqblk_xfs.h): version, flags, fieldmask, id, hard and soft limits of
blocks and inodes, and fields that only the kernel fills in."""


def limit_of(project: int, size: int) -> bytes:
    """Return the ``fs_disk_quota`` that limits a project to ``size`` bytes."""
    blocks = -(-size // _BLOCK)
    fields = _FS_DQ_BSOFT | _FS_DQ_BHARD
    rest = (0,) * 15
    return _LIMIT.pack(
        _FS_DQUOT_VERSION, _FS_PROJ_QUOTA, fields, project, blocks, blocks, *rest, bytes(8)
    )


def command_of(subcommand: int) -> int:
    """Return quotactl(2)'s command word for project quotas."""
    return subcommand << _SUBCMD_SHIFT | _PRJQUOTA


def limit_tree(directories: Sequence[str], size: int) -> None:
    """Limit the size of new, empty directories of one filesystem together.

    The number of their project is the first one's inode number, which is unique on the filesystem as
    long as that directory exists.

    Args:
        directories: their paths.
        size: in bytes.

    Raises:
        UnsupportedError: the filesystem has no project quotas.
        OSError: the limit cannot be set.
    """
    project = _project_of(os.stat(directories[0]))
    try:
        for directory in directories:
            _join_project(directory, project)
        _set_limit(directories[0], project, size)
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


def usage_of(fd: int) -> Usage | None:
    """Return the usage that the filesystem has counted for directories that `limit_tree` has limited.

    Args:
        fd: the first of the directories, open.

    Returns:
        None if it has no limit, or the filesystem does not tell.
    """
    project = _project_of(os.fstat(fd))
    try:
        joined = attributes_of(fd)
        if not joined.is_inherited or joined.project != project:
            return None
        quota = ctypes.create_string_buffer(_LIMIT.size)
        _call(fd, _Q_XGETQUOTA, project, quota)
    except OSError:
        return None
    _, _, _, _, _, _, _, _, blocks, inodes, *_ = _LIMIT.unpack_from(quota)
    return Usage(blocks * _BLOCK, inodes)


def _project_of(directory: os.stat_result) -> int:
    return directory.st_ino & 0xFFFFFFFF


def _join_project(directory: str, project: int) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        set_attributes(fd, attributes_of(fd).with_project(project))
    finally:
        os.close(fd)


def _set_limit(directory: str, project: int, size: int) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _call(fd, _Q_XSETQLIM, project, ctypes.create_string_buffer(limit_of(project, size)))
    finally:
        os.close(fd)


def _call(fd: int, subcommand: int, project: int, quota: ctypes.Array[ctypes.c_char]) -> None:
    command = ctypes.c_uint(command_of(subcommand))
    if libc.syscall(_SYS_QUOTACTL_FD, fd, command, project, quota):
        raise_errno(f"project {project}")
