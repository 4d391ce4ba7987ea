"""A tree, or its changes, as a tar stream.

The same tree gives the same bytes on every filesystem, independent of the order in which it was built:
a directory comes before its entries, siblings are in byte order, whiteouts have a fixed time, and no
header holds a name, a device or a time of this machine.

- A file with several names is stored once, under the first name that is packed; the others are hard
  links to it.
- Extended attributes that are not content are left out (`graphdriver.layer.attributes`).
- A file called like a whiteout is an error: it would delete something where it is unpacked.
- A socket cannot be in a tar; it is left out, with a warning.
- The tree may change while it is packed. A name that vanished is left out with a warning, a file that
  grew is cut at the size in its header, one that shrank breaks the stream.
- A sparse file is packed with its holes as zeros. A Docker daemon rebuilds a layer's tar from its
  headers and the files' bytes (tar-split), which fails if the tar leaves holes out.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Generator, Iterable, Iterator, Sequence

from graphdriver.driver import ChangeKind, IDMap
from graphdriver.errors import BrokenStreamError, GraphDriverError, UnsupportedError
from graphdriver.layer import whiteout
from graphdriver.layer.attributes import in_tar
from graphdriver.layer.change_list import ChangeList
from graphdriver.layer.idmap import to_container
from graphdriver.layer.tar.entry import Entry, EntryType
from graphdriver.layer.tar.header import BLOCK
from graphdriver.layer.tar.writer import END, file_headers, headers
from graphdriver.layer.tree.directory import Dir
from graphdriver.layer.tree.directory_path import DirectoryPath
from graphdriver.layer.tree.walk import look_at, walk_to_files
from graphdriver.linux import xattr
from graphdriver.linux.regular_file import (
    NotRegularError,
    open_and_stat,
    open_and_stat_nodev,
    open_nodev,
)
from graphdriver.linux.resources import error_text

_PIECE = 256 << 10
"""How many bytes of a big file are read at a time; a smaller file is read at once."""
_GATHERED = 128 << 10
"""How many bytes of headers and small files are joined into one piece."""
_ZEROS = bytes(BLOCK)

_TYPES = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFIFO: EntryType.FIFO,
}

_log = logging.getLogger(__name__)


def pack(
    root_fd: int,
    changes: ChangeList | None,
    *,
    uid_maps: Sequence[IDMap] = (),
    gid_maps: Sequence[IDMap] = (),
) -> Packer:
    """Return a tree as a tar stream.

    Args:
        root_fd: the tree's root; borrowed until this returns.
        changes: the changes to pack, as `graphdriver.layer.changes` lists them; None: the whole tree
            and its root.
        uid_maps: owners on disk are mapped back by these.
        gid_maps: likewise for groups.
    """
    return Packer(root_fd, changes, uid_maps, gid_maps)


class Packer:
    """The stream of `pack`, and the errors that it raises.

    Attributes:
        size: the sum of the sizes of the files packed so far, in bytes.
        inodes: how many inodes were packed so far, as many as the stream makes when it is unpacked into
            an empty tree: the root, further names of a file and whiteouts do not count.
        root: the tree's root, a descriptor of its own.
        above: the directory of the current entry.
        prefix: the path of that, with a slash at its end unless it is the root.

    Raises:
        BrokenStreamError: the tree changed meanwhile in a way that a tar cannot express.
        UnsupportedError: something cannot be in a layer's tar; the text names it.
        GraphDriverError: something cannot be read, or has an owner outside the maps.
    """

    def __init__(
        self,
        root_fd: int,
        changes: ChangeList | None,
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        # In a copy of the mount without devices, open(2) of a device fails instead of using it. So a
        # name can be opened first and checked afterwards, which saves a system call for each file.
        root = open_nodev(root_fd)
        if root is None:
            root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root_fd)
            self._open = open_and_stat
        else:
            self._open = open_and_stat_nodev
        self.root = Dir(root)
        self._uid_maps = uid_maps
        self._gid_maps = gid_maps
        self._has_maps = bool(uid_maps or gid_maps)
        self.size = 0
        self.inodes = 0
        self.above = DirectoryPath()
        self.prefix = b""
        self._links: dict[tuple[int, int], tuple[DirectoryPath, bytes]] = {}
        self._pieces = self._gathered(changes)
        self._piece = b""
        self._at = 0
        self._broken: Exception | None = None

    def read(self, n: int, /) -> bytes:
        """Return 1 to ``n`` bytes, ``b""`` at the end."""
        # A broken stream stays broken: another read raises the same error again. After a clean end the
        # reader would take the short layer for a whole one.
        if self._broken:
            raise self._broken
        if self._at == len(self._piece):
            try:
                self._piece, self._at = next(self._pieces, b""), 0
            except Exception as error:
                self._broken = error
                raise
        part = self._piece[self._at : self._at + n]
        self._at += len(part)
        return part

    def close(self) -> None:
        """Close the tree."""
        self._pieces.close()
        self.root.close()

    def _gathered(self, changes: ChangeList | None) -> Generator[bytes, None, None]:
        """Join the pieces of entries to pieces large enough for a system call."""
        gathered: list[bytes] = []
        size = 0
        for entry in self.whole_tree() if changes is None else self._changed(changes):
            for piece in entry:
                gathered.append(piece)
                size += len(piece)
                if size >= _GATHERED:
                    yield b"".join(gathered)
                    gathered.clear()
                    size = 0
        yield b"".join((*gathered, END))

    def whole_tree(self) -> Iterator[Iterable[bytes]]:
        """Yield the pieces of each entry of the tree."""
        yield self.entry(b".", self.root.fd, os.fstat(self.root.fd))
        self.inodes = 0  # the tree that it is unpacked into has a root already
        for above, name, parent_fd, found in walk_to_files(self.root.fd):
            if above is not self.above:
                self.enter(above)
            yield self.entry(name, parent_fd, found)

    def enter(self, above: DirectoryPath) -> None:
        """Set the directory of the next entries."""
        self.prefix = above.prefix_beside(self.above, self.prefix)
        self.above = above

    def interpret(self, name: bytes, parent_fd: int, found: os.stat_result) -> Iterable[bytes]:
        """Return the pieces for a name; a subclass may translate marks."""
        return self.entry(name, parent_fd, found)

    def _changed(self, changes: ChangeList) -> Iterator[Iterable[bytes]]:
        for above, name, parent_fd, kind in changes.visit(self.root.fd):
            if above is not self.above:
                self.enter(above)
            if kind is ChangeKind.DELETED:
                yield (headers(whiteout.whiteout_entry(self.prefix, name)),)
                continue
            try:
                found = os.lstat(name, dir_fd=parent_fd)
            except FileNotFoundError:
                self._warn_vanished(name)
                continue
            yield self.entry(name, parent_fd, found)

    def entry(self, name: bytes, parent_fd: int, found: os.stat_result | None) -> Iterable[bytes]:
        """Return the pieces for a name: its header, and its content.

        ``found`` is None for a name that was listed as a regular file.
        """
        if name.startswith(whiteout.PREFIX):
            raise UnsupportedError(
                f"{self._show(name)} is called like a whiteout, and would delete something where"
                " it is unpacked",
                hint="rename it in the container",
            )
        try:
            if found is None:
                return self._file(name, parent_fd)
            kind = _TYPES.get(found.st_mode & 0o170000)
            if kind is None:
                _log.warning(
                    "%r is a socket, which no tar can hold: left out", self.above.show(name)
                )
                return ()
            if kind is EntryType.FILE:
                return self._file(name, parent_fd)
            return (self._other(name, parent_fd, kind, found),)
        except NotRegularError as error:
            # It was listed as a regular file and is not one any more: look again. After an lstat(2)
            # there is no second try, since a name that changes all the time would never end.
            if found is not None:
                raise _unreadable(self._show(name), error) from error
        except FileNotFoundError:
            self._warn_vanished(name)
            return ()
        except OSError as error:
            raise _unreadable(self._show(name), error) from error
        except GraphDriverError as error:
            error.problem = f"{self._show(name)}: {error.problem}"
            raise
        found = look_at(self.above, name, parent_fd)
        return () if found is None else self.interpret(name, parent_fd, found)

    def _file(self, name: bytes, parent_fd: int) -> Iterable[bytes]:
        fd, found = self._open(parent_fd, name)
        path = self.prefix + name
        is_passed_on = False
        try:
            size = found.st_size
            attributes = xattr.get_all(fd)
            # The common case has a faster function: one name, no attributes, no mapped owner.
            if found.st_nlink == 1 and size <= _PIECE and not (attributes or self._has_maps):
                head = file_headers(
                    path,
                    found.st_mode & 0o7777,
                    found.st_uid,
                    found.st_gid,
                    size,
                    found.st_mtime_ns,
                )
                self.size += size
                self.inodes += 1
                return (_with_data(head, fd, size),)
            entry = self._described(path, EntryType.FILE, found)
            if self._is_linked(name, entry, found):
                return (headers(entry),)
            if attributes:
                entry.xattrs = in_tar(attributes, self._uid_maps, self._gid_maps)
            entry.size = entry.stored = size
            self.size += size
            self.inodes += 1
            if size > _PIECE:
                is_passed_on = True
                return _content(entry, fd, self._show(name))
            return (_with_data(headers(entry), fd, size),)
        finally:
            if not is_passed_on:
                os.close(fd)

    def _other(self, name: bytes, parent_fd: int, kind: EntryType, found: os.stat_result) -> bytes:
        """Return the header of anything but a regular file; never open it: that would use a device."""
        attributes = xattr.get_all_at(parent_fd, name)
        path = self.prefix + name
        if kind is EntryType.DIRECTORY:
            entry = self._described(path + b"/", kind, found)
        else:
            entry = self._described(path, kind, found)
            if kind is EntryType.SYMLINK:
                entry.link = os.readlink(name, dir_fd=parent_fd)
            elif kind is not EntryType.FIFO:
                entry.device = os.major(found.st_rdev), os.minor(found.st_rdev)
            if self._is_linked(name, entry, found):
                return headers(entry)
        self.inodes += 1
        if attributes:
            entry.xattrs = in_tar(attributes, self._uid_maps, self._gid_maps)
        return headers(entry)

    def _described(self, name: bytes, kind: EntryType, found: os.stat_result) -> Entry:
        return Entry(
            name,
            kind,
            found.st_mode & 0o7777,
            to_container(self._uid_maps, found.st_uid) if self._uid_maps else found.st_uid,
            to_container(self._gid_maps, found.st_gid) if self._gid_maps else found.st_gid,
            mtime_ns=found.st_mtime_ns,
        )

    def _is_linked(self, name: bytes, entry: Entry, found: os.stat_result) -> bool:
        """Make an entry a hard link if its file was packed under another name before."""
        if found.st_nlink == 1:
            return False
        here = self.above, name
        first = self._links.setdefault((found.st_dev, found.st_ino), here)
        if first is here:
            return False
        path = first[0].prefix() + first[1]
        entry.type, entry.link, entry.device = EntryType.HARD_LINK, path, (0, 0)
        return True

    def _show(self, name: bytes) -> str:
        return repr(os.fsdecode(self.above.show(name)))

    def _warn_vanished(self, name: bytes) -> None:
        _log.warning("%r vanished while it was packed: left out", self.above.show(name))


def _with_data(head: bytes, fd: int, size: int) -> bytes:
    """Return the header and the content of a small file, padded to whole blocks."""
    data = os.read(fd, size) if size else b""
    # Never padded with zeros: the layer would have content that nobody wrote.
    if len(data) < size:
        raise BrokenStreamError("shrank while it was packed")
    return b"".join((head, data, _ZEROS[: -size % BLOCK]))


def _content(entry: Entry, fd: int, shown: str) -> Iterator[bytes]:
    """Yield a big file's header and content, and close the file."""
    try:
        yield headers(entry)
        left = entry.size
        while left:
            piece = os.read(fd, min(left, _PIECE))
            if not piece:
                raise BrokenStreamError(
                    f"{shown}: shrank while it was packed: {left} bytes are missing"
                )
            left -= len(piece)
            yield piece
        yield bytes(-entry.size % BLOCK)
    except OSError as error:
        raise _unreadable(shown, error) from error
    finally:
        os.close(fd)


def _unreadable(shown: str, error: OSError) -> GraphDriverError:
    return GraphDriverError(f"{shown} cannot be read: {error_text(error)}")
