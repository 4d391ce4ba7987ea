"""The merged view of the directories below an overlay's upper one, without a mount.

The rules are the kernel's (Documentation/filesystems/overlayfs.rst, "Upper and Lower", "whiteouts and
opaque directories"): for each name the nearest layer that has it decides. A whiteout there means that
the name does not exist. A directory is merged with the directories of the same name below it, down to
one that is opaque or to something that is not a directory. Paths are never followed through links.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from graphdriver.layer.overlay.whiteout import TRUSTED, Marks, is_opaque, is_opaque_at, is_whiteout
from graphdriver.layer.tree.directory import Dir
from graphdriver.layer.tree.trail import Trail


@dataclass(frozen=True, slots=True)
class Below:
    """A name as the layers below show it.

    ``dir`` is its parent directory in the layer that has it; borrowed. For a directory, ``layers`` are
    the numbers of the layers that are merged in it, nearest first.
    """

    dir: Dir
    stat: os.stat_result
    layers: tuple[int, ...]


class Level:
    """One merged directory of the layers below.

    Args:
        parts: the directories that are merged, with the numbers of their layers, nearest first;
            borrowed.
        marks: where opaque marks are kept.
    """

    def __init__(self, parts: Sequence[tuple[int, Dir]], marks: Marks) -> None:
        self._parts = parts
        self._marks = marks

    def __bool__(self) -> bool:
        return bool(self._parts)

    def look(self, name: bytes) -> Below | None:
        """Return a name as the layers show it; None if it does not exist."""
        first: tuple[Dir, os.stat_result] | None = None
        layers: list[int] = []
        for layer, directory in self._parts:
            try:
                found = os.lstat(name, dir_fd=directory.fd)
            except FileNotFoundError:
                continue
            if is_whiteout(found):
                break
            first = first or (directory, found)
            if not stat.S_ISDIR(found.st_mode):
                break
            layers.append(layer)
            if is_opaque_at(directory.fd, name, self._marks):
                break
        return Below(*first, tuple(layers)) if first else None

    def names(self) -> list[bytes]:
        """Return all names that exist in the merged directory."""
        return [name for name in self.listed() if self.look(name) is not None]

    def listed(self) -> set[bytes]:
        """Return all names in any layer, whiteouts too."""
        return {name for _, one in self._parts for name in self._marks.names_in(one)}


class Lowers:
    """The directories below an upper one, which follow a walk through it down and up.

    Args:
        fds: their roots, nearest first; borrowed.
        marks: where opaque marks are kept.

    Attributes:
        level: the current directory, until the next step.
    """

    def __init__(self, fds: Sequence[int], marks: Marks = TRUSTED) -> None:
        self._marks = marks
        self._held = contextlib.ExitStack()
        self._layers: list[Sequence[int]] = [range(len(fds))]
        with contextlib.ExitStack() as opened:
            # Only the innermost directory of each stays open: there may be hundreds of layers.
            self._trails = [opened.enter_context(Trail(fd, keep=1)) for fd in fds]
            self._held = opened.pop_all()
        self.level = self._arrived()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._held.close()

    def enter(self, name: bytes, layers: Sequence[int]) -> None:
        """Go down into a directory, in the layers that are merged in it.

        Args:
            name: one name.
            layers: `Below.layers` of the directory, or none.

        Raises:
            OSError: the directory does not exist (any more).
        """
        for layer in layers:
            self._trails[layer].enter(name)
        self._layers.append(layers)
        self.level = self._arrived()

    def leave(self) -> None:
        """Go up again.

        Raises:
            BrokenStreamError: a directory was moved meanwhile.
        """
        for layer in self._layers.pop():
            self._trails[layer].leave()
        self.level = self._arrived()

    def _arrived(self) -> Level:
        here = [(layer, self._trails[layer].here) for layer in self._layers[-1]]
        return Level(here, self._marks)


class Descent:
    """A position in an upper directory and in those below it, which moves by paths.

    It keeps the last directory open, so that a directory below that costs only the further steps.

    Args:
        upper_fd: the upper directory; borrowed.
        lower_fds: the directories below, nearest first; borrowed.
        marks: where opaque marks are kept.
    """

    def __init__(self, upper_fd: int, lower_fds: Sequence[int], marks: Marks = TRUSTED) -> None:
        self._roots = upper_fd, tuple(enumerate(lower_fds))
        self._marks = marks
        self._path: list[bytes] | None = None
        self._upper: Dir | None = None
        self._parts: list[tuple[int, Dir]] = []

    def level(self, path: list[bytes]) -> Level:
        """Return a directory as the layers below show it; valid until the next call.

        Args:
            path: the names that lead to the directory, none of them a link.

        Raises:
            OSError: there is no such directory (any more).
        """
        if self._path is None or path[: len(self._path)] != self._path:
            self.close()
            upper_fd, lower_fds = self._roots
            self._arrive(upper_fd, b".", lower_fds)
            self._path = []
        for name in path[len(self._path) :]:
            if self._parts:
                assert self._upper is not None
                below = Level(self._parts, self._marks).look(name)
                layers = below.layers if below else ()
                merged = [(layer, one.fd) for layer, one in self._parts if layer in layers]
                self._arrive(self._upper.fd, name, merged)
            self._path.append(name)
        return Level(self._parts, self._marks)

    def removed(self, path: list[bytes]) -> None:
        """Note that a directory is removed; start from the root again if the position is in it."""
        if self._leads_here(path):
            self._path = None

    def became_opaque(self, path: list[bytes]) -> None:
        """Note that a directory became opaque; close the layers below if the position is in it."""
        if self._leads_here(path):
            self._close_parts()

    def close(self) -> None:
        """Close all descriptors."""
        self._path = None
        self._close_parts()
        if self._upper is not None:
            self._upper.close()
            self._upper = None

    def _leads_here(self, path: list[bytes]) -> bool:
        return self._path is not None and self._path[: len(path)] == path

    def _close_parts(self) -> None:
        for _, directory in self._parts:
            directory.close()
        self._parts = []

    def _arrive(self, upper_fd: int, name: bytes, lowers: Iterable[tuple[int, int]]) -> None:
        """Open a directory in all layers, and close the previous one."""
        with contextlib.ExitStack() as opened:
            upper = opened.enter_context(Dir.at(upper_fd, name))
            parts = []
            if not is_opaque(upper, self._marks):
                parts = [(layer, opened.enter_context(Dir.at(fd, name))) for layer, fd in lowers]
            opened.pop_all()
        self._close_parts()
        if self._upper is not None:
            self._upper.close()
        self._upper, self._parts = upper, parts
