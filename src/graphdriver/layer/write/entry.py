"""One entry put into its folder: made, and given what its header says.

The rules:

- The last name is never followed, and what is made is made new (``O_EXCL``): a file that was there
  before may be hard-linked to another layer's.
- Whatever is set is set on the descriptor of what was made, in the order data, owner, mode, attributes,
  times: a chown takes set-id bits and capabilities away, and a write changes times. Links, FIFOs and
  devices are opened with ``O_PATH``, their type checked, and set through /proc/self/fd.
- A file is given its owner only where it has another: whose files are that are made in a folder is
  seen from the first of them.
- What cannot be kept here is left out with a warning, or, if the file would be another one without it,
  is an error (`graphdriver.layer.write.losses`).
- Where a tar is full of zeros a file gets holes. Nothing reads differently, and what was sparse before
  it was packed is so again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.layer.attributes import content_of, may_be_lost
from graphdriver.layer.tar.entry import Entry, EntryType, show
from graphdriver.layer.write.losses import Losses
from graphdriver.linux import xattr
from graphdriver.linux.acl import drop_acl, drop_acls
from graphdriver.linux.namespaces import in_user_namespace
from graphdriver.linux.resources import error_text, filesystem_name, has_room

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_EVERYBODY_KEEPS = range((1 << 31) * 1_000_000_000)
_DEVICE_MODE = {
    EntryType.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryType.BLOCK_DEVICE: stat.S_IFBLK,
}
_BIG = 64 << 10
_HOLE = 4096
_LONGEST_ATTRIBUTE = 255, 1 << 16  # its name and its value (linux/limits.h)
_IS_TYPE = {
    EntryType.SYMLINK: stat.S_ISLNK,
    EntryType.CHARACTER_DEVICE: stat.S_ISCHR,
    EntryType.BLOCK_DEVICE: stat.S_ISBLK,
    EntryType.FIFO: stat.S_ISFIFO,
}


class Data(Protocol):
    """An entry's data, still in the tar."""

    def data(self, n: int | None = None) -> Iterator[memoryview]:
        """Yield the next so many bytes, or all that is left."""
        ...

    def all_data(self) -> bytes:
        """Return all that is left."""
        ...


@dataclass(slots=True)
class Folder:
    """An open folder: as the tar calls it, and where it is without links.

    ``inherits``: it gives what is made in it an ACL of its own. ``owner``: whose a file is that was
    made in it; None before there is one.
    """

    parts: list[bytes]
    path: list[bytes]
    fd: int
    inode: int
    times: tuple[int, int]
    is_all_own: bool
    inherits: bool
    owner: tuple[int, int] | None = None


def make_file(folder: Folder, name: bytes, entry: Entry, data: Data, losses: Losses) -> None:
    """Make a regular file with its data.

    Args:
        folder: where it is to be.
        name: its name there; nothing may have it.
        entry: what the tar says, with owners as they are on disk.
        data: its data.
        losses: is told what cannot be kept.

    Raises:
        FileExistsError: something has that name; no data was read.
        UnsupportedError: the filesystem cannot keep what the entry says.
        OSError: anything else.
    """
    fd = os.open(name, _NEW_FILE, 0o600, dir_fd=folder.fd)
    try:
        if entry.sparse is not None:
            _write_ranges(fd, entry, data)
        elif entry.stored < _BIG:
            _write(fd, data.all_data())
        else:
            _write_with_holes(fd, entry, data)
        if folder.inherits:
            drop_acl(fd)
        if folder.owner is None:
            found = os.fstat(fd)
            folder.owner = found.st_uid, found.st_gid
        if folder.owner != (entry.uid, entry.gid):
            _chown(fd, entry)
        _describe(fd, entry, losses)
    finally:
        os.close(fd)


def make_other(folder: Folder, name: bytes, entry: Entry, losses: Losses) -> bool:
    """Make a symbolic link, a device or a FIFO; arguments and errors as for `make_file`.

    Returns:
        Whether it was made; a device may be left out.
    """
    match entry.type:
        case EntryType.SYMLINK:
            os.symlink(entry.link, name, dir_fd=folder.fd)
        case EntryType.FIFO:
            os.mkfifo(name, 0o600, dir_fd=folder.fd)
        case _:
            try:
                kind = _DEVICE_MODE[entry.type]
                os.mknod(name, kind | 0o600, os.makedev(*entry.device), dir_fd=folder.fd)
            except OSError as error:
                if error.errno != errno.EPERM:
                    raise
                _lose_device(entry, losses, error)
                return False
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder.fd)
    try:
        if not _IS_TYPE[entry.type](os.fstat(fd).st_mode):
            raise OSError(f"{show(name)} was replaced by somebody while it was made")
        path = xattr.path_of(fd)
        _chown(path, entry)
        if entry.type is EntryType.SYMLINK:
            _set_xattrs(path, entry, losses)
            _set_time(path, entry, losses)
        else:
            if folder.inherits:
                drop_acl(path)
            _describe(path, entry, losses)
    finally:
        os.close(fd)
    return True


def make_folder(dir_fd: int, name: bytes, inherits: bool) -> int:
    """Make a folder that nobody else may enter yet, and return its open descriptor.

    Raises:
        FileExistsError: something has that name.
        OSError: anything else.
    """
    os.mkdir(name, 0o700, dir_fd=dir_fd)
    fd = os.open(name, _FOLDER, dir_fd=dir_fd)
    try:
        if inherits:
            drop_acls(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def describe_folder(fd: int, entry: Entry, new: bool, losses: Losses) -> None:
    """Give a folder what its entry says; one that was there before loses what it does not say.

    Raises:
        UnsupportedError: the filesystem cannot keep it.
        OSError: anything else.
    """
    if not new:
        for name in content_of(xattr.get_all(fd)).keys() - entry.xattrs.keys():
            xattr.remove(fd, name)
    _chown(fd, entry)
    _describe(fd, entry, losses)


def _describe(target: int | bytes, entry: Entry, losses: Losses) -> None:
    os.chmod(target, entry.mode)
    if entry.xattrs:
        _set_xattrs(target, entry, losses)
    _set_time(target, entry, losses)


def _lose_device(entry: Entry, losses: Losses, error: OSError) -> None:
    """Go on without a device where nobody can make it.

    That is in a user namespace, as Docker does it: what containers need is in their /dev. And a 0:0
    character device cannot be made through a mounted overlay, since it would be a whiteout below.

    Raises:
        UnsupportedError: it could be made here with more rights.
    """
    problem = f"{show(entry.name)}: this device cannot be made here: {error.strerror}"
    if entry.device != (0, 0) and not in_user_namespace():
        raise UnsupportedError(
            problem, hint="let this process make devices (CAP_MKNOD, device cgroup)"
        ) from error
    losses.note("devices", problem)


def _chown(target: int | bytes, entry: Entry) -> None:
    try:
        os.chown(target, entry.uid, entry.gid)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise GraphDriverError(
            f"{show(entry.name)}: its owner {entry.uid}:{entry.gid} is nobody in this user namespace",
            hint="give the user who runs this a larger range of subordinate ids",
        ) from error


def _set_xattrs(target: int | bytes, entry: Entry, losses: Losses) -> None:
    is_link = entry.type is EntryType.SYMLINK
    for name, value in entry.xattrs.items():
        try:
            xattr.set(target, name, value)
        except OSError as error:
            where = f"{show(entry.name)}: the attribute {show(name)} cannot be kept"
            if not may_be_lost(name, error.errno, is_link=is_link):
                raise _not_kept(where, target, name, value, error) from error
            losses.note(f"attributes {name.partition(b'.')[0]!r}", f"{where}: {error.strerror}")


def _not_kept(
    where: str, target: int | bytes, name: bytes, value: bytes, error: OSError
) -> GraphDriverError:
    """Tell why an attribute cannot be set; what the kernel says of large ones is misleading."""
    longest_name, longest_value = _LONGEST_ATTRIBUTE
    match error.errno:
        case errno.ERANGE:
            reason = f"its name has {len(name)} bytes, and Linux takes {longest_name}"
        case errno.E2BIG if len(value) > longest_value:
            reason = f"it has {len(value)} bytes, and Linux takes {longest_value}"
        case errno.E2BIG | errno.ENOSPC if error.errno == errno.E2BIG or has_room(target):
            where_to = filesystem_name(target)
            return UnsupportedError(
                f"{where}: its {len(value)} bytes are more than {where_to} holds for one file",
                hint="keep layers on XFS, which holds attributes of 64 KiB",
            )
        case errno.ENOSPC | errno.EDQUOT:
            return GraphDriverError(f"{where}: {error_text(error, target)}")
        case _:
            reason = error_text(error, target)
    return UnsupportedError(f"{where}: {reason}")


def _set_time(target: int | bytes, entry: Entry, losses: Losses) -> None:
    time = entry.mtime_ns
    os.utime(target, ns=(time, time))
    # The kernel takes any time, and sets the nearest that the filesystem can keep.
    if time not in _EVERYBODY_KEEPS and os.stat(target).st_mtime_ns != time:
        losses.note(
            "times",
            f"{show(entry.name)}: the filesystem cannot keep its time, {time // 1_000_000_000} seconds"
            " after 1970; the nearest one is set",
        )


def _write_ranges(fd: int, entry: Entry, data: Data) -> None:
    """Write a sparse file: only what the tar holds of it; the rest is holes."""
    assert entry.sparse is not None
    os.ftruncate(fd, entry.size)
    for offset, length in entry.sparse:
        os.lseek(fd, offset, os.SEEK_SET)
        for piece in data.data(length):
            _write(fd, piece)


def _write_with_holes(fd: int, entry: Entry, data: Data) -> None:
    """Write a big file; where a whole piece is zeros a hole is left."""
    for piece in data.data():
        if len(piece) >= _HOLE and _is_zeros(piece):
            os.lseek(fd, len(piece), os.SEEK_CUR)
        else:
            _write(fd, piece)
    os.ftruncate(fd, entry.size)  # for a hole at the end


def _is_zeros(piece: memoryview) -> bool:
    # Most pieces are told by a byte or three; to compare a view is slow, and a copy of it is not.
    if piece[0] or piece[-1] or piece[len(piece) // 2]:
        return False
    return piece.tobytes() == bytes(len(piece))


def _write(fd: int, piece: bytes | memoryview) -> None:
    written = os.write(fd, piece) if piece else 0
    while written < len(piece):
        written += os.write(fd, piece[written:])
