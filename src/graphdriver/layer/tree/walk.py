"""Walking and removing folder trees by descriptor.

The rules:

- No path is ever resolved. Each folder is opened by its name in the folder above it, never through a
  link, so neither the depth of a tree nor the length of its paths has a limit here.
- No recursion, and a bounded number of descriptors: of the folders on the way down only the
  innermost stay open. One that was closed is opened again as ``..`` of the folder below it, and must
  then be the folder that it was: what moves while it is walked is an error, not a way out.
- What vanishes between being listed and being looked at is left out, with a warning.
- A directory is known by its name and the one above it: no path is built, whose length would grow with
  the depth (`graphdriver.layer.tree.directory_path`).
- A folder that something else is mounted on is listed, but neither entered nor emptied: what lies
  there is not the layer's.
- Nothing is opened but folders. What a container made immutable is removed all the same.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

from graphdriver.errors import BrokenStreamError
from graphdriver.layer.tree.directory_path import DirectoryPath
from graphdriver.linux import inode_flags
from graphdriver.linux.openat2 import RESOLVE_NO_XDEV, openat2
from graphdriver.linux.xattr import path_of

_log = logging.getLogger(__name__)

OPEN_FOLDERS = 64
"""How many folders of one way down are open at a time."""

REMOVE_TRIES = 1000
"""How often a removal that somebody works against begins again at a name before it gives up."""

REMOVE_NAMES = 10_000
"""How many names of a folder a removal holds at a time."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NO_FOLDER_HERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Node(NamedTuple):
    """Something in a tree: not its root, which has no name.

    ``above`` is the directory that it is in; ``name`` is to be used with ``parent_fd``, which is open
    as long as the node is current.
    """

    above: DirectoryPath
    name: bytes
    parent_fd: int
    stat: os.stat_result

    @property
    def path(self) -> bytes:
        """Its path relative to the root, without a leading slash; as long as it is deep."""
        return self.above.prefix() + self.name


class Trail:
    """The open folders from a root down to the one that is current.

    Args:
        root_fd: a folder's descriptor, ``O_PATH`` will do; it stays the caller's.
        keep: how many folders stay open at a time.
    """

    def __init__(self, root_fd: int, keep: int = OPEN_FOLDERS) -> None:
        self._keep = keep
        self.fd = os.open(".", _FOLDER, dir_fd=root_fd)
        self._open = [self.fd]
        try:
            self._known = [_identity(self.fd)]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def depth(self) -> int:
        """How many folders the current one is below the root."""
        return len(self._open) - 1

    def enters(self, name: bytes) -> bool:
        """Go down into the folder ``name``, or tell that there is none (any more) to go into."""
        try:
            self.enter(name)
        except OSError as error:
            if error.errno not in _NO_FOLDER_HERE and error.errno != errno.EXDEV:
                raise
            _log.warning("%r vanished, or is a mount, while its tree was read: left out", name)
            return False
        return True

    def enter(self, name: bytes) -> None:
        """Go down into the folder ``name`` of the current one.

        Raises:
            OSError: ENOENT, ENOTDIR or ELOOP if there is no folder of that name (any more), EXDEV
                if something is mounted on it.
        """
        fd = openat2(self.fd, name, _FOLDER, resolve=RESOLVE_NO_XDEV)
        self._open.append(fd)
        self._known.append(_identity(fd))
        self.fd = fd
        outer = len(self._open) - 1 - self._keep
        if outer >= 0 and self._open[outer] >= 0:
            os.close(self._open[outer])
            self._open[outer] = -1

    def leave(self) -> None:
        """Go up again.

        Raises:
            BrokenStreamError: the folder is no longer where it was.
        """
        below = self._open.pop()
        self._known.pop()
        try:
            if self._open[-1] < 0:
                self._open[-1] = os.open("..", _FOLDER, dir_fd=below)
                if _identity(self._open[-1]) != self._known[-1]:
                    raise BrokenStreamError("a folder was moved while its tree was read")
        finally:
            os.close(below)
        self.fd = self._open[-1]

    def close(self) -> None:
        """Close every folder that is open."""
        for fd in self._open:
            if fd >= 0:
                os.close(fd)
        self._open.clear()


def walk(root_fd: int) -> Iterator[Node]:
    """Yield all that is below a folder: a folder before what it holds, siblings in byte order.

    Args:
        root_fd: the folder's descriptor; it stays the caller's and must live as long as the walk.

    Raises:
        BrokenStreamError: the tree was moved about meanwhile.
        OSError: a folder cannot be read.
    """
    for above, name, parent_fd, seen in walk_to_files(root_fd):
        found = seen or look_at(above, name, parent_fd)
        if found is not None:
            yield Node(above, name, parent_fd, found)


def walk_to_files(
    root_fd: int,
) -> Iterator[tuple[DirectoryPath, bytes, int, os.stat_result | None]]:
    """Yield what `walk` does, but without a look at regular files, for those who open them anyway.

    Arguments and errors as for `walk`; of what was listed as a regular file the last member is None.
    """
    with Trail(root_fd) as trail:
        levels = [(DirectoryPath(), iter(_listed(trail.fd)))]
        while levels:
            above, names = levels[-1]
            fd = trail.fd
            for listed in names:
                if listed[-1]:
                    yield above, listed, fd, None
                    continue
                name = listed[:-1]
                found = look_at(above, name, fd)
                if found is None:
                    continue
                yield above, name, fd, found
                if stat.S_ISDIR(found.st_mode) and trail.enters(name):
                    levels.append((DirectoryPath(above, name), iter(_listed(trail.fd))))
                    break
            else:
                levels.pop()
                if levels:
                    trail.leave()


def _listed(fd: int) -> list[bytes]:
    """Return a folder's names in byte order; a NUL stands behind those of what is no regular file."""
    names = []
    try:
        with os.scandir(path_of(fd)) as entries:  # of a descriptor it gives text
            for entry in entries:
                name = entry.name
                names.append(name if entry.is_file(follow_symlinks=False) else name + b"\0")
    except FileNotFoundError:  # it was removed meanwhile, so it holds nothing
        return []
    names.sort()
    return names


def look_at(above: DirectoryPath, name: bytes, parent_fd: int) -> os.stat_result | None:
    """Return what is found at a name, or warn that it vanished."""
    try:
        return os.lstat(name, dir_fd=parent_fd)
    except FileNotFoundError:
        _log.warning("%r vanished while its tree was read: left out", above.show(name))
        return None


def names_in(fd: int) -> list[bytes]:
    """Return a folder's names in byte order (`os.listdir` of a descriptor gives them as text)."""
    try:
        return sorted(map(os.fsencode, os.listdir(fd)))
    except FileNotFoundError:  # it was removed meanwhile, so it holds nothing
        return []


def remove_tree(dir_fd: int, name: bytes) -> None:
    """Remove ``name``, whatever it is, and all that is below it. Absence is success.

    Links are removed, never followed; who swaps folders for links meanwhile loses the links.

    Args:
        dir_fd: the folder that ``name`` is in.
        name: one name, not a path.

    Raises:
        BrokenStreamError: the tree was moved about meanwhile.
        OSError: something cannot be removed.
    """
    tries = 0
    entered: list[tuple[bytes, bool]] = []
    with Trail(dir_fd) as trail:
        levels = [[name]]
        while levels:
            todo = levels[-1]
            if todo:
                if _unlinked(trail, todo[-1]):
                    todo.pop()
                    continue
                try:
                    trail.enter(todo[-1])
                except OSError as error:
                    tries += 1
                    if error.errno not in _NO_FOLDER_HERE or tries > REMOVE_TRIES:
                        raise
                    continue
                names = _some_names_in(trail.fd)
                entered.append((todo.pop(), len(names) == REMOVE_NAMES))
                levels.append(names)
                continue
            levels.pop()
            if not levels:
                return
            trail.leave()
            folder, there_is_more = entered.pop()
            try:
                _remove(os.rmdir, trail, folder)
            except FileNotFoundError:
                pass
            except OSError as error:
                tries += not there_is_more
                again = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
                if error.errno not in again or tries > REMOVE_TRIES:
                    raise
                levels[-1].append(folder)


def _some_names_in(fd: int) -> list[bytes]:
    """Return a folder's first names, in no order."""
    try:
        with os.scandir(fd) as entries:
            return [os.fsencode(entry.name) for entry in itertools.islice(entries, REMOVE_NAMES)]
    except FileNotFoundError:  # it was removed meanwhile, so it holds nothing
        return []


def _unlinked(trail: Trail, name: bytes) -> bool:
    """Remove what is no folder; tell whether ``name`` is gone."""
    try:
        _remove(os.unlink, trail, name)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        return False
    return True


def _remove(remove: Callable[..., None], trail: Trail, name: bytes) -> None:
    """Remove with one of `os.unlink` and `os.rmdir`, whatever flags somebody set against that."""
    try:
        remove(name, dir_fd=trail.fd)
    except PermissionError:
        if trail.depth:  # else the folder is not of the tree that is to go
            inode_flags.allow_changes(trail.fd)
        inode_flags.allow_changes_at(trail.fd, name)
        remove(name, dir_fd=trail.fd)


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
