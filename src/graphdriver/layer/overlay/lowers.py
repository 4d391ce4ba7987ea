"""What the folders below an overlay's upper one show together, looked up without a mount.

The rules are the kernel's (Documentation/filesystems/overlayfs.rst, "Upper and Lower", "whiteouts and
opaque directories"): of a name the nearest layer decides. A 0:0 character device there means that there
is nothing; a folder is merged with the folders of the same name below it, down to one that is opaque
or to something that is no folder. Paths are never followed through links.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from graphdriver.layer.overlay.whiteout import TRUSTED, Marks, is_opaque, is_opaque_at, is_whiteout
from graphdriver.layer.tree.trail import Trail

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Below:
    """What the layers below show under a name.

    ``fd`` is the open folder of the layer that has it; of a folder, ``layers`` are those whose content
    is merged in it, nearest first.
    """

    fd: int
    stat: os.stat_result
    layers: tuple[int, ...]


class Level:
    """One folder as the layers below merge it.

    Args:
        folders: the open folders that have a part in it, with their layers' numbers, nearest first.
        marks: where opaque marks are kept.
    """

    def __init__(self, folders: Sequence[tuple[int, int]], marks: Marks) -> None:
        self._folders = folders
        self._marks = marks

    def __bool__(self) -> bool:
        return bool(self._folders)

    def look(self, name: bytes) -> Below | None:
        """Return what is shown under a name; None if nothing is."""
        first: tuple[int, os.stat_result] | None = None
        layers: list[int] = []
        for layer, fd in self._folders:
            try:
                found = os.lstat(name, dir_fd=fd)
            except FileNotFoundError:
                continue
            if is_whiteout(found):
                break
            first = first or (fd, found)
            if not stat.S_ISDIR(found.st_mode):
                break
            layers.append(layer)
            if is_opaque_at(fd, name, self._marks):
                break
        return Below(*first, tuple(layers)) if first else None

    def names(self) -> list[bytes]:
        """Return all names that are shown."""
        return [name for name in self.listed() if self.look(name) is not None]

    def listed(self) -> set[bytes]:
        """Return all names that are there in any layer, whiteouts too."""
        return {name for _, fd in self._folders for name in self._marks.names_in(fd)}


class Lowers:
    """The folders below an upper one, walked along with it: down and up one folder at a time.

    Args:
        fds: their open descriptors, nearest first; they stay the caller's.
        marks: where opaque marks are kept.

    Attributes:
        level: what they show in the current folder, until the next step.
    """

    def __init__(self, fds: Sequence[int], marks: Marks = TRUSTED) -> None:
        self._marks = marks
        self._held = contextlib.ExitStack()
        self._layers: list[Sequence[int]] = [range(len(fds))]
        with contextlib.ExitStack() as opened:
            # Only the innermost folder of each stays open: there may be hundreds of layers.
            self._trails = [opened.enter_context(Trail(fd, keep=1)) for fd in fds]
            self._held = opened.pop_all()
        self.level = self._arrived()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._held.close()

    def enter(self, name: bytes, layers: Sequence[int]) -> None:
        """Go down into a folder, in those layers that have a part in it.

        Args:
            name: one name.
            layers: which; `Below.layers` of the folder, or none.

        Raises:
            OSError: it is not there (any more).
        """
        for layer in layers:
            self._trails[layer].enter(name)
        self._layers.append(layers)
        self.level = self._arrived()

    def leave(self) -> None:
        """Go up again.

        Raises:
            BrokenStreamError: a layer was moved about meanwhile.
        """
        for layer in self._layers.pop():
            self._trails[layer].leave()
        self.level = self._arrived()

    def _arrived(self) -> Level:
        here = [(layer, self._trails[layer].fd) for layer in self._layers[-1]]
        return Level(here, self._marks)


class Descent:
    """The way down an upper folder and those below it, to one folder after another.

    It stays where it is, so that the next folder further down costs one step and not the whole way.

    Args:
        upper_fd: the upper folder; it stays the caller's.
        lower_fds: those below, nearest first; likewise.
        marks: where opaque marks are kept.
    """

    def __init__(self, upper_fd: int, lower_fds: Sequence[int], marks: Marks = TRUSTED) -> None:
        self._roots = upper_fd, tuple(enumerate(lower_fds))
        self._marks = marks
        self._path: list[bytes] | None = None
        self._upper = -1
        self._folders: list[tuple[int, int]] = []

    def level(self, path: list[bytes]) -> Level:
        """Return what the layers below show in a folder of the upper one, until the next call.

        Args:
            path: the folder's parts, of which none is a link.

        Raises:
            OSError: there is no such folder (any more).
        """
        if self._path is None or path[: len(self._path)] != self._path:
            self.close()
            upper, lowers = self._roots
            self._arrive(upper, b".", lowers)
            self._path = []
        for name in path[len(self._path) :]:
            if self._folders:
                below = Level(self._folders, self._marks).look(name)
                layers = below.layers if below else ()
                self._arrive(self._upper, name, [one for one in self._folders if one[0] in layers])
            self._path.append(name)
        return Level(self._folders, self._marks)

    def removed(self, path: list[bytes]) -> None:
        """Take note that a folder is removed; begin at the root again if it led here."""
        if self._leads_here(path):
            self._path = None

    def became_opaque(self, path: list[bytes]) -> None:
        """Take note that a folder hides all below it, here too if it led here."""
        if self._leads_here(path):
            self._close_folders()

    def _leads_here(self, path: list[bytes]) -> bool:
        return self._path is not None and self._path[: len(path)] == path

    def close(self) -> None:
        """Close what is open."""
        self._path = None
        self._let_go()

    def _close_folders(self) -> None:
        for _, fd in self._folders:
            os.close(fd)
        self._folders = []

    def _let_go(self) -> None:
        self._close_folders()
        if self._upper >= 0:
            os.close(self._upper)
            self._upper = -1

    def _arrive(self, upper: int, name: bytes, lowers: Iterable[tuple[int, int]]) -> None:
        """Open a folder in all, and close those that it was reached from."""
        with contextlib.ExitStack() as opened:
            reached = os.open(name, _FOLDER, dir_fd=upper)
            opened.callback(os.close, reached)
            folders = []
            if not is_opaque(reached, self._marks):
                for layer, fd in lowers:
                    folders.append((layer, os.open(name, _FOLDER, dir_fd=fd)))
                    opened.callback(os.close, folders[-1][1])
            opened.pop_all()
        self._let_go()
        self._upper, self._folders = reached, folders
