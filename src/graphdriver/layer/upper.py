"""The upper folder of an overlay mount read as a layer: its changes and its tar, without a mount.

All that a layer changed is in its upper folder, so nothing else need be walked. But not all in there is
a change: a file that was opened for writing, or a folder above a change, was copied up and may be the
same as below. And an opaque folder hides what only the layers below can tell.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from graphdriver.driver import Change, ChangeKind, IDMap
from graphdriver.errors import GraphDriverError
from graphdriver.layer.changes import list_changes, same
from graphdriver.layer.format import header
from graphdriver.layer.lowers import TRUSTED, Below, Descent, Lowers, Marks, is_whiteout
from graphdriver.layer.pack import Packer
from graphdriver.layer.rootfd import RootFd
from graphdriver.layer.walk import walk_to_files
from graphdriver.layer.whiteout import OPAQUE, PREFIX, mark
from graphdriver.linux import xattr


def upper_changes(upper_fd: int, lower_fds: Sequence[int], marks: Marks = TRUSTED) -> list[Change]:
    """List what an upper folder changes in what the folders below it show.

    The answer is the one that `graphdriver.layer.changes.changes` gives for the two mounted trees.

    Args:
        upper_fd: the upper folder.
        lower_fds: those below, nearest first.
        marks: where the mount looks for opaque marks.

    Raises:
        OSError: something cannot be read.
    """
    return list_changes(_compare(RootFd(upper_fd), Lowers(lower_fds, marks), marks))


def _compare(upper: RootFd, lowers: Lowers, marks: Marks) -> Iterator[tuple[bytes, ChangeKind]]:
    """Yield the changes, but for the folders above them, in no set order."""
    # Siblings share the path above them: many at the bottom of a deep tree would take gigabytes.
    todo: list[tuple[list[bytes], list[bytes], tuple[int, ...], bool]] = [
        ([], [], lowers.all, False)
    ]
    while todo:
        above, last, layers, hidden = todo.pop()
        path = above + last
        prefix = b"".join(part + b"/" for part in path)
        try:
            fd = upper.open_straight(path)
        except (FileNotFoundError, NotADirectoryError):
            continue  # it was deleted meanwhile, which is no change of the layer any more
        try:
            hidden = hidden or xattr.get(fd, marks.opaque) == b"y"
            names = marks.names_in(fd)
            with lowers.level(path, layers) as level:
                if hidden:
                    for name in set(level.names()).difference(names):
                        yield prefix + name, ChangeKind.DELETED
                for name in names:
                    try:
                        found = os.lstat(name, dir_fd=fd)
                    except FileNotFoundError:
                        continue
                    below = level.look(name)
                    kind = _kind(fd, name, found, below)
                    if kind is not None:
                        yield prefix + name, kind
                    if stat.S_ISDIR(found.st_mode):
                        todo.append((path, [name], below.layers if below else (), hidden))
        finally:
            os.close(fd)


def _kind(fd: int, name: bytes, found: os.stat_result, below: Below | None) -> ChangeKind | None:
    if is_whiteout(found):
        return ChangeKind.DELETED if below else None
    if below is None:
        return ChangeKind.ADDED
    return None if same(fd, below.fd, name, found, below.stat, 0) else ChangeKind.MODIFIED


def _nothing_below() -> AbstractContextManager[Sequence[int]]:
    return contextlib.nullcontext(())


class UpperPacker(Packer):
    """The stream of an upper folder, marks as whiteouts and opaque entries; see `Packer`.

    All that is in it is packed, changed or not: so a tar that was unpacked into it comes out again. But
    of marks that are not exact only those where something is below.

    Args:
        upper_fd: the upper folder; it stays the caller's.
        uid_maps: owners on disk are mapped back by these.
        gid_maps: likewise for groups.
        marks: where the mount looks for opaque marks.
        open_lowers: for marks that are not exact. It opens the folders below, nearest first, until the
            stream is closed; it is asked when the first mark is found.
    """

    def __init__(
        self,
        upper_fd: int,
        uid_maps: Sequence[IDMap] = (),
        gid_maps: Sequence[IDMap] = (),
        marks: Marks = TRUSTED,
        open_lowers: Callable[[], AbstractContextManager[Sequence[int]]] = _nothing_below,
    ) -> None:
        self._open_lowers = open_lowers
        self._held = contextlib.ExitStack()
        self._descent: Descent | None = None
        self._marks = marks
        self._is_root_opaque = False
        super().__init__(upper_fd, None, uid_maps, gid_maps)

    def close(self) -> None:
        """Let go of the layer, and of those below."""
        self._held.close()
        super().close()

    def whole_tree(self) -> Iterator[Iterable[bytes]]:
        """Yield each entry's pieces; the root is the mount's affair and not the layer's."""
        self._is_root_opaque = xattr.get(self.root, self._marks.opaque) == b"y"
        if self._is_root_opaque:
            yield (header(mark(OPAQUE)),)
        for path, name, parent_fd, found in walk_to_files(self.root):
            if self._marks.hides(name):
                continue
            if found is None:
                yield self.entry(path, name, parent_fd, None)
            else:
                yield self.looked_at(path, name, parent_fd, found)

    def looked_at(
        self, path: bytes, name: bytes, parent_fd: int, found: os.stat_result
    ) -> Iterable[bytes]:
        """Return the pieces of what was seen to be there, marks as what they mean."""
        if is_whiteout(found):
            if self._is_root_opaque and path == name:
                return ()  # the mark says it of all names in the root
            if not self._hides(path, name):
                return ()
            return (header(mark(path[: -len(name)] + PREFIX + name)),)
        pieces = self.entry(path, name, parent_fd, found)
        is_folder = pieces and stat.S_ISDIR(found.st_mode)
        if is_folder and self._is_opaque(parent_fd, name) and self._hides(path, name, folder=True):
            return (*pieces, header(mark(path + b"/" + OPAQUE)))
        return pieces

    def _is_opaque(self, parent_fd: int, name: bytes) -> bool:
        try:
            return xattr.get_at(parent_fd, name, self._marks.opaque) == b"y"
        except OSError as error:
            raise GraphDriverError(f"{os.fsdecode(name)!r}: {error.strerror}") from error

    def _hides(self, path: bytes, name: bytes, *, folder: bool = False) -> bool:
        """Tell whether there is something below a mark; below that of a folder it must be one, too."""
        if self._marks.exact:
            return True
        if self._descent is None:
            lowers = self._held.enter_context(self._open_lowers())
            self._descent = Descent(self.root, lowers, self._marks)
            self._held.callback(self._descent.close)
        try:
            below = self._descent.level(path.split(b"/")[:-1]).look(name)
        except (FileNotFoundError, NotADirectoryError):
            return False  # its folder was deleted meanwhile
        return below is not None and (not folder or stat.S_ISDIR(below.stat.st_mode))
