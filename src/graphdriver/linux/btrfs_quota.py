"""Simple quotas of btrfs (Linux 6.7): the usage and the limit of each subvolume.

They are enabled for a whole filesystem, and count all later writes. Each subvolume has a quota group of
its number. A limit is set on a group above that one: a subvolume that is made within another joins the
groups above the other's, so a container cannot escape its limit by making subvolumes.
"""

from __future__ import annotations

import errno
import fcntl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from graphdriver.errors import UnsupportedError
from graphdriver.linux.btrfs import READ, WRITE, ioc, search

QUOTA_TREE_OBJECTID: Final = 8
QGROUP_STATUS_KEY: Final = 240
QGROUP_INFO_KEY: Final = 242
QGROUP_LIMIT_KEY: Final = 244
QGROUP_RELATION_KEY: Final = 246

_IOC_QUOTA_CTL: Final = ioc(READ | WRITE, 40, 16)
_IOC_QGROUP_ASSIGN: Final = ioc(WRITE, 41, 24)
_IOC_QGROUP_CREATE: Final = ioc(WRITE, 42, 16)
_IOC_QGROUP_LIMIT: Final = ioc(READ, 43, 48)

_ENABLE_SIMPLE_QUOTA: Final = 4
_IS_SIMPLE: Final = 1 << 3
"""BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA, BTRFS_QGROUP_STATUS_FLAG_SIMPLE_MODE."""
_MAX_RFER: Final = 1 << 0
_MOST: Final = (1 << 64) - 1
_LEVEL_SHIFT: Final = 48


@dataclass(frozen=True, slots=True)
class Quota:
    """The usage of a subvolume, with those made in it, and its limit, in bytes."""

    used: int
    limit: int


def is_enabled(fd: int) -> bool:
    """Tell whether simple quotas are enabled on a filesystem.

    Args:
        fd: anything open on it.

    Raises:
        UnsupportedError: quotas of another kind are enabled.
        OSError: the call failed.
    """
    for (status,) in _found(fd, 0, QGROUP_STATUS_KEY, 0, "<16xQ"):
        if status & _IS_SIMPLE:
            return True
        raise UnsupportedError(
            "quotas are enabled that count shared data, so each layer would count as a whole image",
            hint="leave size= out, or disable them (btrfs quota disable)",
        )
    return False


def limit_subvolume(fd: int, id: int, size: int) -> None:
    """Limit a new subvolume together with those made in it; enable quotas if needed.

    Args:
        fd: anything open on the filesystem.
        id: the subvolume's number.
        size: in bytes.

    Raises:
        UnsupportedError: the kernel has no simple quotas, or quotas of another kind are enabled.
        OSError: the call failed.
    """
    if not is_enabled(fd):
        try:
            _call(fd, _IOC_QUOTA_CTL, _ENABLE_SIMPLE_QUOTA, 0)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            raise UnsupportedError(
                "this kernel has no simple quotas for btrfs, so a layer's size cannot be limited",
                hint="leave size= out, or use Linux 6.7 or later",
            ) from error
    group = _group_above(id)
    _call(fd, _IOC_QGROUP_CREATE, 1, group)
    _call(fd, _IOC_QGROUP_ASSIGN, 1, id, group)
    _call(fd, _IOC_QGROUP_LIMIT, group, _MAX_RFER, size, 0, 0, 0)


def forget_limit(fd: int, id: int) -> None:
    """Remove the limit of `limit_subvolume`, if there is one.

    Args:
        fd: anything open on the filesystem in a subvolume that is not full.
        id: the limited subvolume's number.

    Raises:
        OSError: the call failed.
    """
    group = _group_above(id)
    if quota_of(fd, id) is None:
        return
    for member in list(_members(fd, group)):
        _call(fd, _IOC_QGROUP_ASSIGN, 0, member, group)
    _call(fd, _IOC_QGROUP_CREATE, 0, group)


def quota_of(fd: int, id: int) -> Quota | None:
    """Return the quota of a subvolume; None if it has no limit.

    Writes that are not committed yet are not counted.

    Raises:
        OSError: the call failed.
    """
    group = _group_above(id)
    for (used,) in _found(fd, 0, QGROUP_INFO_KEY, group, "<8xQ"):  # generation, referenced
        for flags, limit in _found(fd, 0, QGROUP_LIMIT_KEY, group, "<QQ"):
            return Quota(used, limit if flags & _MAX_RFER else 0)
    return None


def _group_above(id: int) -> int:
    return 1 << _LEVEL_SHIFT | id


def _members(fd: int, group: int) -> Iterator[int]:
    first, last = (group, QGROUP_RELATION_KEY, 0), (group, QGROUP_RELATION_KEY, _MOST)
    for item in search(fd, QUOTA_TREE_OBJECTID, first, last):
        yield item.offset


def _found(fd: int, object: int, type: int, offset: int, form: str) -> Iterator[tuple[int, ...]]:
    """Yield the fields of an item of the quota tree, if there is one."""
    key = object, type, offset
    try:
        for item in search(fd, QUOTA_TREE_OBJECTID, key, key):
            yield struct.unpack_from(form, item.data)
    except FileNotFoundError:  # quotas were never enabled
        return


def _call(fd: int, number: int, *words: int) -> None:
    fcntl.ioctl(fd, number, bytearray(struct.pack(f"={len(words)}Q", *words)))
