"""Snapshots and removal of a layer's subvolume together with the subvolumes inside it.

On btrfs a process that may write to a directory may make subvolumes there, so a container can. A
snapshot leaves inner subvolumes out, and a subvolume that holds others cannot be destroyed. So each of
them gets its own snapshot and its own removal. They are opened by their numbers, at any depth, and
never by a path that a container made.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from graphdriver.files.directories import opened
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.linux import btrfs, btrfs_quota, inode_flags

ROOT: Final = "root"
"""The name of a layer's subvolume in the layer's directory."""


def snapshot(source_fd: int, dir_fd: int, name: bytes) -> None:
    """Make a snapshot of a subvolume and of all subvolumes in it.

    Args:
        source_fd: its root directory.
        dir_fd: the directory that the snapshot is made in.
        name: its name there.

    Raises:
        OSError: it cannot be made; the caller removes what was made.
    """
    btrfs.create_snapshot(source_fd, dir_fd, name)
    with opened(name, dir_fd=dir_fd) as made:
        pending = [(btrfs.subvolume_of(source_fd).id, btrfs.subvolume_of(made).id)]
        while pending:
            source, copy = pending.pop()
            for id, place in list(btrfs.subvolumes_in(made, source)):
                pending.append((id, _snapshot_within(made, id, copy, place)))


def _snapshot_within(fd: int, id: int, copy: int, place: btrfs.Name) -> int:
    """Make a snapshot of subvolume ``id`` where subvolume ``copy`` has an empty directory instead."""
    source = btrfs.open_directory(fd, id)
    try:
        directory = btrfs.open_directory(fd, copy, place.directory)
        try:
            # The copy of an immutable directory is immutable too.
            inode_flags.allow_changes(directory)
            os.rmdir(place.name, dir_fd=directory)
            btrfs.create_snapshot(source, directory, place.name)
            with opened(place.name, dir_fd=directory) as made:
                return btrfs.subvolume_of(made).id
        finally:
            os.close(directory)
    finally:
        os.close(source)


def destroy(dir_fd: int, name: bytes) -> None:
    """Destroy a subvolume and all subvolumes in it, even if they are read-only, immutable or full.

    Args:
        dir_fd: the directory that it is in.
        name: its name there.

    Raises:
        OSError: one cannot be destroyed: it is in use for swap or for a send.
    """
    with opened(name, dir_fd=dir_fd) as fd:
        root = btrfs.subvolume_of(fd).id
        # From outside of it: Linux 6.18 counts that change as a write to the subvolume that is open.
        btrfs_quota.forget_limit(dir_fd, root)
        pending = [root]
        inner: list[tuple[int, btrfs.Name]] = []
        for id in pending:  # the list grows meanwhile
            found = list(btrfs.subvolumes_in(fd, id))
            if found:
                _make_writable(fd, id)
            inner += [(id, place) for _, place in found]
            pending += [one for one, _ in found]
        for id, place in reversed(inner):  # the innermost first
            directory = btrfs.open_directory(fd, id, place.directory)
            try:
                inode_flags.allow_changes(directory)
                _destroy_one(directory, place.name)
            finally:
                os.close(directory)
    _destroy_one(dir_fd, name)


def delete_layer(dir_fd: int, name: bytes) -> None:
    """Delete a layer's directory with its subvolume; also an unfinished one, without a subvolume.

    Args:
        dir_fd: the directory that it is in.
        name: its name there.

    Raises:
        OSError: it cannot be deleted.
    """
    absent = contextlib.suppress(FileNotFoundError, NotADirectoryError)
    with absent, opened(name, dir_fd=dir_fd) as layer:
        with opened(ROOT, dir_fd=layer) as root:
            is_subvolume = btrfs.is_subvolume(root)
        if is_subvolume:
            destroy(layer, os.fsencode(ROOT))
    remove_tree(dir_fd, name)


def _destroy_one(dir_fd: int, name: bytes) -> None:
    try:
        btrfs.destroy_subvolume(dir_fd, name)
    except PermissionError:
        inode_flags.allow_changes_at(dir_fd, name)
        btrfs.destroy_subvolume(dir_fd, name)


def _make_writable(fd: int, id: int) -> None:
    directory = btrfs.open_directory(fd, id)
    try:
        btrfs.make_writable(directory)
    finally:
        os.close(directory)
