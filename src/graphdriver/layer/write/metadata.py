"""The metadata of an entry: owner, mode, extended attributes, time.

It is set on the open descriptor of the new inode, in this order: chown(2) clears set-id bits and file
capabilities, chmod(2) changes an access control list, and every step changes times.
"""

from __future__ import annotations

import errno
import os

from graphdriver.errors import GraphDriverError
from graphdriver.layer.attributes import content_of, may_be_lost
from graphdriver.layer.tar.entry import Entry, EntryType, show
from graphdriver.layer.write.refusals import Losses, attribute_error
from graphdriver.linux import xattr

# Every filesystem stores times of 31-bit seconds, so they need not be read back.
_EVERY_FILESYSTEM_KEEPS = range((1 << 31) * 1_000_000_000)


def set_metadata(target: int | bytes, entry: Entry, losses: Losses) -> None:
    """Set the metadata of a new inode, except the owner.

    Args:
        target: a descriptor, or the `xattr.path_of` one.
        entry: its entry.
        losses: warns of what is left out.

    Raises:
        GraphDriverError: the filesystem cannot store it; the text names entry and attribute.
        OSError: anything else.
    """
    os.chmod(target, entry.mode)
    if entry.xattrs:
        _set_attributes(target, entry, losses)
    os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))
    if entry.mtime_ns not in _EVERY_FILESYSTEM_KEEPS:
        _note_lost_time(target, entry, losses)


def set_link_metadata(target: bytes, entry: Entry, losses: Losses) -> None:
    """Do what `set_metadata` does for a symbolic link, which has no mode of its own."""
    _set_attributes(target, entry, losses)
    os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))
    if entry.mtime_ns not in _EVERY_FILESYSTEM_KEEPS:
        _note_lost_time(target, entry, losses)


def set_directory_metadata(fd: int, entry: Entry, *, is_new: bool, losses: Losses) -> None:
    """Do what `set_metadata` does for a directory, and set its owner.

    An existing directory loses the attributes that its entry does not have.
    """
    if not is_new:
        for name in content_of(xattr.get_all(fd)).keys() - entry.xattrs.keys():
            xattr.remove(fd, name)
    set_owner(fd, entry)
    set_metadata(fd, entry, losses)


def set_owner(target: int | bytes, entry: Entry) -> None:
    """Set the owner, before anything else.

    Raises:
        GraphDriverError: this user namespace has no such user.
        OSError: anything else.
    """
    try:
        os.chown(target, entry.uid, entry.gid)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise GraphDriverError(
            f"{show(entry.name)}: its owner {entry.uid}:{entry.gid} is nobody in this user namespace",
            hint="give the user who runs this a larger range of subordinate ids",
        ) from error


def _set_attributes(target: int | bytes, entry: Entry, losses: Losses) -> None:
    is_link = entry.type is EntryType.SYMLINK
    for name, value in entry.xattrs.items():
        try:
            xattr.set(target, name, value)
        except OSError as error:
            if not may_be_lost(name, error.errno, is_link=is_link):
                problem = f"{show(entry.name)}: the attribute {show(name)} cannot be kept"
                raise attribute_error(problem, target, name, value, error) from error
            losses.note_attribute(entry.name, name, str(error.strerror))


def _note_lost_time(target: int | bytes, entry: Entry, losses: Losses) -> None:
    # The kernel accepts any time, and sets the nearest one that the filesystem can store.
    if os.stat(target).st_mtime_ns != entry.mtime_ns:
        losses.note(
            "times",
            f"{show(entry.name)}: the filesystem cannot keep its time,"
            f" {entry.mtime_ns // 1_000_000_000} seconds after 1970; the nearest one is set",
        )
