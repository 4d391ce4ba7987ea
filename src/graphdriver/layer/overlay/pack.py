"""An upper directory as a tar stream, without a mount."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from graphdriver.driver import IDMap
from graphdriver.errors import GraphDriverError
from graphdriver.layer.overlay.lowers import Below, Level, Lowers
from graphdriver.layer.overlay.whiteout import TRUSTED, Marks, is_opaque, is_opaque_at, is_whiteout
from graphdriver.layer.pack import Packer
from graphdriver.layer.tar.writer import headers
from graphdriver.layer.tree.directory_path import DirectoryPath
from graphdriver.layer.tree.trail import Trail
from graphdriver.layer.tree.walk import walk_to_files
from graphdriver.layer.whiteout import opaque_entry, whiteout_entry
from graphdriver.linux.resources import error_text


def _nothing_below() -> AbstractContextManager[Sequence[int]]:
    return contextlib.nullcontext(())


class _Descent:
    """The layers below the directory that is being packed, looked up only when needed.

    Args:
        upper_fd: the upper directory; borrowed.
        lowers: the directories below.
        marks: where opaque marks are kept.
    """

    def __init__(self, upper_fd: int, lowers: Lowers, marks: Marks) -> None:
        self._upper = Trail(upper_fd)
        self._lowers = lowers
        self._marks = marks
        self._way: list[DirectoryPath] = []

    def level(self, directory: DirectoryPath) -> Level | None:
        """Go to a directory by the shortest way; return None if it was deleted meanwhile.

        Raises:
            BrokenStreamError: a directory was moved meanwhile.
            OSError: a layer below cannot be read.
        """
        ahead = []
        while directory.above and directory is not self._last_at(directory.depth):
            ahead.append(directory)
            directory = directory.above
        while len(self._way) > directory.depth:
            self._upper.leave()
            self._lowers.leave()
            self._way.pop()
        for one in reversed(ahead):
            if not self._entered(one):
                return None
        return self._lowers.level

    def close(self) -> None:
        """Close the upper directory."""
        self._upper.close()

    def _last_at(self, depth: int) -> DirectoryPath | None:
        return self._way[depth - 1] if depth <= len(self._way) else None

    def _entered(self, directory: DirectoryPath) -> bool:
        below = self._lowers.level.look(directory.name)
        if not self._upper.enters(directory.name):
            return False
        is_merged = below is not None and not is_opaque(self._upper.here, self._marks)
        self._lowers.enter(directory.name, below.layers if below and is_merged else ())
        self._way.append(directory)
        return True


class UpperPacker(Packer):
    """The stream of an upper directory, with marks as whiteouts and opaque entries; see `Packer`.

    Everything in it is packed, changed or not, so a tar that was unpacked into it comes out again.
    Marks that are not exact are packed only if they hide something.

    Args:
        upper_fd: the upper directory; borrowed.
        uid_maps: owners on disk are mapped back by these.
        gid_maps: likewise for groups.
        marks: where the mount looks for opaque marks.
        open_lowers: opens the directories below, nearest first, until the stream is closed; called for
            the first mark that is not exact.
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
        self._below: _Descent | None = None
        self._marks = marks
        self._is_root_opaque = False
        super().__init__(upper_fd, None, uid_maps, gid_maps)

    def close(self) -> None:
        """Close the upper directory and those below."""
        self._held.close()
        super().close()

    def whole_tree(self) -> Iterator[Iterable[bytes]]:
        """Yield the pieces of each entry, without the root, which belongs to the mount."""
        self._is_root_opaque = is_opaque(self.root, self._marks)
        if self._is_root_opaque:
            yield (headers(opaque_entry(b"")),)
        for above, name, parent_fd, found in walk_to_files(self.root.fd):
            if self._marks.hides(name):
                continue
            if above is not self.above:
                self.enter(above)
            if found is None:
                yield self.entry(name, parent_fd, None)
            else:
                yield self.interpret(name, parent_fd, found)

    def interpret(self, name: bytes, parent_fd: int, found: os.stat_result) -> Iterable[bytes]:
        """Return the pieces for a name, with marks as whiteouts and opaque entries."""
        if is_whiteout(found):
            if self._is_root_opaque and self.above.depth == 0:
                return ()  # the opaque entry of the root deletes all names in it
            if not self._hides(name):
                return ()
            return (headers(whiteout_entry(self.prefix, name)),)
        pieces = self.entry(name, parent_fd, found)
        is_directory = pieces and stat.S_ISDIR(found.st_mode)
        if is_directory and self._is_opaque(parent_fd, name) and self._hides_directory(name):
            return (*pieces, headers(opaque_entry(b"%b%b/" % (self.prefix, name))))
        return pieces

    def _is_opaque(self, parent_fd: int, name: bytes) -> bool:
        try:
            return is_opaque_at(parent_fd, name, self._marks)
        except FileNotFoundError:  # it was removed meanwhile, so it hides nothing
            return False
        except OSError as error:
            raise GraphDriverError(f"{os.fsdecode(name)!r}: {error_text(error)}") from error

    def _hides(self, name: bytes) -> bool:
        """Tell whether a whiteout hides something."""
        return self._marks.exact or self._look_below(name) is not None

    def _hides_directory(self, name: bytes) -> bool:
        """Tell whether an opaque directory hides another directory."""
        if self._marks.exact:
            return True
        below = self._look_below(name)
        return below is not None and stat.S_ISDIR(below.stat.st_mode)

    def _look_below(self, name: bytes) -> Below | None:
        """Return a name of the current directory as the layers below show it."""
        if self._below is None:
            fds = self._held.enter_context(self._open_lowers())
            lowers = self._held.enter_context(Lowers(fds, self._marks))
            self._below = _Descent(self.root.fd, lowers, self._marks)
            self._held.callback(self._below.close)
        level = self._below.level(self.above)
        return level.look(name) if level else None
