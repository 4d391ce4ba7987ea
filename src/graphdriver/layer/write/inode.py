"""A new inode for an entry: a file with its data, a symbolic link, a device, a FIFO.

- The name is never followed, and every inode is new (``O_EXCL``): an existing file may be a hard link
  of another layer's file.
- Metadata is set on the open descriptor of the new inode. Links, FIFOs and devices are opened with
  ``O_PATH``, their type is checked, and their metadata is set through /proc/self/fd.
- Long runs of zeros become holes. The content is the same, and a file that was sparse before it was
  packed is sparse again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Protocol

from graphdriver.errors import UnsupportedError
from graphdriver.layer.tar.entry import Entry, EntryType, show
from graphdriver.layer.write.cursor import Parent
from graphdriver.layer.write.metadata import set_link_metadata, set_metadata, set_owner
from graphdriver.layer.write.refusals import Losses
from graphdriver.linux import xattr
from graphdriver.linux.acl import drop_acl
from graphdriver.linux.namespaces import in_user_namespace

# O_EXCL: an existing file may be a hard link of another layer's, and must not be written to.
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_IN_ONE_PIECE = 64 << 10
"""Smaller files, in bytes, are written at once, without a search for zeros."""
_HOLE = 4096
_DEVICE_MODE = {
    EntryType.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryType.BLOCK_DEVICE: stat.S_IFBLK,
}
_IS_TYPE = {
    EntryType.SYMLINK: stat.S_ISLNK,
    EntryType.CHARACTER_DEVICE: stat.S_ISCHR,
    EntryType.BLOCK_DEVICE: stat.S_ISBLK,
    EntryType.FIFO: stat.S_ISFIFO,
}


class Data(Protocol):
    """An entry's data, still in the tar."""

    def data(self, n: int | None = None) -> Iterator[memoryview]:
        """Yield the next ``n`` bytes, or the rest."""
        ...

    def all_data(self) -> bytes:
        """Return the rest."""
        ...


def make_file(parent: Parent, name: bytes, entry: Entry, data: Data, losses: Losses) -> None:
    """Make a regular file with its data.

    Args:
        parent: its directory.
        name: its name there; it must be free.
        entry: the entry, with owners as they are on disk.
        data: its data.
        losses: warns of what is left out.

    Raises:
        FileExistsError: something has that name; no data was read.
        UnsupportedError: the filesystem cannot store the entry.
        OSError: anything else.
    """
    fd = os.open(name, _NEW_FILE, 0o600, dir_fd=parent.dir.fd)
    try:
        if entry.sparse is not None:
            _write_ranges(fd, entry, data)
        elif entry.stored < _IN_ONE_PIECE:
            write_all(fd, data.all_data())
        else:
            _write_with_holes(fd, entry, data)
        if parent.inherits:
            drop_acl(fd)
        # chown(2) is skipped where new files already get the right owner; the first one shows that.
        if parent.owner is None:
            found = os.fstat(fd)
            parent.owner = found.st_uid, found.st_gid
        if parent.owner != (entry.uid, entry.gid):
            set_owner(fd, entry)
        set_metadata(fd, entry, losses)
    finally:
        os.close(fd)


def make_special(parent: Parent, name: bytes, entry: Entry, losses: Losses) -> bool:
    """Make a symbolic link, a device or a FIFO; arguments and errors as for `make_file`.

    Returns:
        Whether it was made; a device may be left out.
    """
    directory_fd = parent.dir.fd
    match entry.type:
        case EntryType.SYMLINK:
            os.symlink(entry.link, name, dir_fd=directory_fd)
        case EntryType.FIFO:
            os.mkfifo(name, 0o600, dir_fd=directory_fd)
        case _:
            if not _make_device(directory_fd, name, entry, losses):
                return False
    # O_PATH, since opening a device uses it, and opening a FIFO waits for its other end.
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory_fd)
    try:
        # The name may be another file by now, which must not get this owner and mode.
        if not _IS_TYPE[entry.type](os.fstat(fd).st_mode):
            raise OSError(f"{show(name)} was replaced by another process while it was made")
        path = xattr.path_of(fd)
        set_owner(path, entry)
        if entry.type is EntryType.SYMLINK:
            set_link_metadata(path, entry, losses)
        else:
            if parent.inherits:
                drop_acl(path)
            set_metadata(path, entry, losses)
    finally:
        os.close(fd)
    return True


def _make_device(directory_fd: int, name: bytes, entry: Entry, losses: Losses) -> bool:
    """Make a device, or leave it out where no process can make it; tell whether it was made.

    That is any device in a user namespace, where Docker leaves them out too: containers have theirs in
    /dev. And a 0:0 character device cannot be made through a mounted overlay, since it would be a
    whiteout in the upper directory.

    Raises:
        UnsupportedError: it could be made here with more rights.
    """
    # Asked before mknod(2), which says of a name that exists only that it does: what has the name
    # would be removed, and nothing could be made in its place.
    is_hopeless = entry.device != (0, 0) and in_user_namespace()
    try:
        if is_hopeless:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        mode = _DEVICE_MODE[entry.type] | 0o600
        os.mknod(name, mode, os.makedev(*entry.device), dir_fd=directory_fd)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        problem = f"{show(entry.name)}: this device cannot be made here: {error.strerror}"
        if entry.device != (0, 0) and not is_hopeless:
            raise UnsupportedError(
                problem, hint="let this process make devices (CAP_MKNOD, device cgroup)"
            ) from error
        losses.note("devices", problem)
        return False
    return True


def _write_ranges(fd: int, entry: Entry, data: Data) -> None:
    """Write a sparse file: the ranges in the tar, and holes between them."""
    assert entry.sparse is not None
    os.ftruncate(fd, entry.size)
    for offset, length in entry.sparse:
        os.lseek(fd, offset, os.SEEK_SET)
        for piece in data.data(length):
            write_all(fd, piece)


def _write_with_holes(fd: int, entry: Entry, data: Data) -> None:
    """Write a big file, with holes instead of long runs of zeros."""
    zeros = 0  # counted across pieces: the holes must not depend on how the sender cuts its stream
    for piece in data.data():
        if is_zeros(piece):
            zeros += len(piece)
            continue
        if zeros >= _HOLE:
            os.lseek(fd, zeros, os.SEEK_CUR)
        else:
            write_all(fd, bytes(zeros))
        zeros = 0
        write_all(fd, piece)
    os.ftruncate(fd, entry.size)  # for zeros at the end


def is_zeros(piece: bytes | memoryview) -> bool:
    """Tell whether a piece, of at least one byte, is all zeros."""
    # Three bytes are enough for most pieces. Comparing a view is slow; comparing a copy is fast.
    if piece[0] or piece[-1] or piece[len(piece) // 2]:
        return False
    return bytes(piece) == bytes(len(piece))


def write_all(fd: int, piece: bytes | memoryview) -> None:
    """Write all bytes of a piece: write(2) may take only a part of them.

    Raises:
        OSError: they cannot be written.
    """
    written = os.write(fd, piece) if piece else 0
    while written < len(piece):
        written += os.write(fd, piece[written:])
