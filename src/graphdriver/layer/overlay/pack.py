"""An upper directory as a tar stream, without a mount."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from graphdriver.driver import IDMap
from graphdriver.errors import GraphDriverError
from graphdriver.layer.overlay.lowers import Level, Lowers
from graphdriver.layer.overlay.whiteout import TRUSTED, Marks, is_opaque, is_opaque_at, is_whiteout
from graphdriver.layer.pack import Packer
from graphdriver.layer.tar.writer import headers
from graphdriver.layer.tree.directory_path import DirectoryPath
from graphdriver.layer.tree.trail import Trail
from graphdriver.layer.tree.walk import walk_to_files
from graphdriver.layer.whiteout import OPAQUE, PREFIX, mark
from graphdriver.linux.resources import error_text


def _nothing_below() -> AbstractContextManager[Sequence[int]]:
    return contextlib.nullcontext(())


class _Below:
    """What the layers below show in the folder that is packed: looked up where it is asked for.

    Args:
        upper_fd: the upper folder.
        lowers: those below.
        marks: where opaque marks are kept.
    """

    def __init__(self, upper_fd: int, lowers: Lowers, marks: Marks) -> None:
        self._upper = Trail(upper_fd)
        self._lowers = lowers
        self._marks = marks
        self._way: list[DirectoryPath] = []

    def level(self, folder: DirectoryPath) -> Level | None:
        """Go to a folder of the upper one, by the shortest way; None if it was deleted meanwhile.

        Raises:
            BrokenStreamError: a tree was moved about meanwhile.
            OSError: a layer below cannot be read.
        """
        ahead = []
        while folder.above and folder is not self._last_at(folder.depth):
            ahead.append(folder)
            folder = folder.above
        while len(self._way) > folder.depth:
            self._upper.leave()
            self._lowers.leave()
            self._way.pop()
        for one in reversed(ahead):
            if not self._entered(one):
                return None
        return self._lowers.level

    def close(self) -> None:
        """Let go of the upper folder."""
        self._upper.close()

    def _last_at(self, depth: int) -> DirectoryPath | None:
        return self._way[depth - 1] if depth <= len(self._way) else None

    def _entered(self, folder: DirectoryPath) -> bool:
        below = self._lowers.level.look(folder.name)
        if not self._upper.enters(folder.name):
            return False
        is_merged = below is not None and not is_opaque(self._upper.fd, self._marks)
        self._lowers.enter(folder.name, below.layers if below and is_merged else ())
        self._way.append(folder)
        return True


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
        self._below: _Below | None = None
        self._marks = marks
        self._is_root_opaque = False
        super().__init__(upper_fd, None, uid_maps, gid_maps)

    def close(self) -> None:
        """Let go of the layer, and of those below."""
        self._held.close()
        super().close()

    def whole_tree(self) -> Iterator[Iterable[bytes]]:
        """Yield each entry's pieces; the root is the mount's affair and not the layer's."""
        self._is_root_opaque = is_opaque(self.root, self._marks)
        if self._is_root_opaque:
            yield (headers(mark(OPAQUE)),)
        for above, name, parent_fd, found in walk_to_files(self.root):
            if self._marks.hides(name):
                continue
            if above is not self.above:
                self.go(above)
            if found is None:
                yield self.entry(name, parent_fd, None)
            else:
                yield self.looked_at(name, parent_fd, found)

    def looked_at(self, name: bytes, parent_fd: int, found: os.stat_result) -> Iterable[bytes]:
        """Return the pieces of what was seen to be there, marks as what they mean."""
        if is_whiteout(found):
            if self._is_root_opaque and self.above.depth == 0:
                return ()  # the mark says it of all names in the root
            if not self._hides(name):
                return ()
            return (headers(mark(self.prefix + PREFIX + name)),)
        pieces = self.entry(name, parent_fd, found)
        is_folder = pieces and stat.S_ISDIR(found.st_mode)
        if is_folder and self._has_opaque_mark(parent_fd, name) and self._hides(name, folder=True):
            return (*pieces, headers(mark(b"%b%b/%b" % (self.prefix, name, OPAQUE))))
        return pieces

    def _has_opaque_mark(self, parent_fd: int, name: bytes) -> bool:
        try:
            return is_opaque_at(parent_fd, name, self._marks)
        except FileNotFoundError:  # it was removed meanwhile, so it hides nothing
            return False
        except OSError as error:
            raise GraphDriverError(f"{os.fsdecode(name)!r}: {error_text(error)}") from error

    def _hides(self, name: bytes, *, folder: bool = False) -> bool:
        """Tell whether there is something below a mark; below that of a folder it must be one, too."""
        if self._marks.exact:
            return True
        if self._below is None:
            fds = self._held.enter_context(self._open_lowers())
            lowers = self._held.enter_context(Lowers(fds, self._marks))
            self._below = _Below(self.root, lowers, self._marks)
            self._held.callback(self._below.close)
        level = self._below.level(self.above)
        below = level.look(name) if level else None
        return below is not None and (not folder or stat.S_ISDIR(below.stat.st_mode))
