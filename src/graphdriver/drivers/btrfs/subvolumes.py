"""Subvolumes with those that are within them, which is what a container can make of its layer.

Whoever may write to a folder on btrfs may make subvolumes there. A snapshot leaves them out, and what
has some in it cannot be destroyed; so both are done here for all of them. They are gone to by their
numbers, never by a path that a container has made, however deep they are.
"""

from __future__ import annotations

import os
from typing import Final

from graphdriver.linux import btrfs, btrfs_quota, inode_flags

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def snapshot(source_fd: int, dir_fd: int, name: bytes) -> None:
    """Make a snapshot of a subvolume and of all that are in it.

    Args:
        source_fd: its root folder.
        dir_fd: the folder that the snapshot is made in.
        name: what it is called there.

    Raises:
        OSError: it cannot be made; what was made is left.
    """
    btrfs.create_snapshot(source_fd, dir_fd, name)
    made = os.open(name, _FOLDER, dir_fd=dir_fd)
    try:
        pending = [(btrfs.subvolume_of(source_fd).id, btrfs.subvolume_of(made).id)]
        while pending:
            source, copy = pending.pop()
            for id, place in list(btrfs.subvolumes_in(made, source)):
                pending.append((id, _snapshot_within(made, id, copy, place)))
    finally:
        os.close(made)


def _snapshot_within(fd: int, id: int, copy: int, place: btrfs.Name) -> int:
    """Make a snapshot of subvolume ``id`` where subvolume ``copy`` has an empty folder instead."""
    source = btrfs.open_directory(fd, id)
    try:
        folder = btrfs.open_directory(fd, copy, place.folder)
        try:
            # The copy of a directory that somebody made immutable is immutable, too.
            inode_flags.allow_changes(folder)
            os.rmdir(place.name, dir_fd=folder)
            btrfs.create_snapshot(source, folder, place.name)
            made = os.open(place.name, _FOLDER, dir_fd=folder)
            try:
                return btrfs.subvolume_of(made).id
            finally:
                os.close(made)
        finally:
            os.close(folder)
    finally:
        os.close(source)


def destroy(dir_fd: int, name: bytes) -> None:
    """Destroy a subvolume and all that are in it: read-only, immutable, over their limit or not.

    Args:
        dir_fd: the folder that it is in.
        name: its name there.

    Raises:
        OSError: one cannot be destroyed, since it is in use for swap or for a send.
    """
    fd = os.open(name, _FOLDER, dir_fd=dir_fd)
    try:
        root = btrfs.subvolume_of(fd).id
        btrfs_quota.forget_limit(fd, root)
        pending = [root]
        inner: list[tuple[int, btrfs.Name]] = []
        for id in pending:  # grows meanwhile
            found = list(btrfs.subvolumes_in(fd, id))
            if found:
                _make_writable(fd, id)
            inner += [(id, place) for _, place in found]
            pending += [one for one, _ in found]
        for id, place in reversed(inner):
            folder = btrfs.open_directory(fd, id, place.folder)
            try:
                inode_flags.allow_changes(folder)
                _destroy_one(folder, place.name)
            finally:
                os.close(folder)
    finally:
        os.close(fd)
    _destroy_one(dir_fd, name)


def _destroy_one(dir_fd: int, name: bytes) -> None:
    try:
        btrfs.destroy_subvolume(dir_fd, name)
    except PermissionError:
        inode_flags.allow_changes_at(dir_fd, name)
        btrfs.destroy_subvolume(dir_fd, name)


def _make_writable(fd: int, id: int) -> None:
    folder = btrfs.open_directory(fd, id)
    try:
        btrfs.make_writable(folder)
    finally:
        os.close(folder)
