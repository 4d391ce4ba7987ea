"""The names in a home and the small files of its layers: reading, writing and repairing them.

The docstring of the package `graphdriver.drivers.overlay` describes the layout and what a crash
leaves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Collection, Sequence
from typing import ClassVar, Final

from graphdriver.errors import GraphDriverError
from graphdriver.files.directories import make_own
from graphdriver.files.small_files import read_text, write_new, write_whole

DIFF: Final = "diff"
WORK: Final = "work"
MERGED: Final = "merged"
LINKS: Final = "l"

_LINK: Final = "link"
_LOWER: Final = "lower"
_COMMITTED: Final = "committed"
_VOLATILE: Final = ".volatile"
_LOWERS: Final = "list of lower layers"
"""What `_LOWER` holds, for error texts."""
_NAME_LENGTH: Final = 26
_OF_BYTE: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" * 8
"""The letter of each random byte in a link's name."""
_TARGET: Final = re.compile(r"\.\./([^/]+)/([^/]+)")
_FIRST: Final = "-"
"""The content of `_LOWER` in a layer that has a work directory and no layer below."""


class Layout:
    """The files in a home.

    Args:
        home: an absolute path.
    """

    link_name: ClassVar[re.Pattern[str]] = re.compile(r"l/[A-Z0-9]{26}")
    """The names of the links that layers can be mounted by."""
    parts: ClassVar[Sequence[str]] = (DIFF,)
    """The directories of a layer that links lead to."""

    def __init__(self, home: str) -> None:
        self.home = home

    def make(self) -> None:
        """Make the directory of the links, unless it exists.

        Raises:
            UnsupportedError: it belongs to another user, or is a file.
            OSError: it cannot be made.
        """
        make_own(self.path(LINKS), 0o700)

    def path(self, *parts: str) -> str:
        """Return a path in the home, by its parts: ``path(id, DIFF)``."""
        return "/".join((self.home, *parts))

    # --- writing ----------------------------------------------------------------------------------

    @staticmethod
    def new_link() -> str:
        """Return the name of a link that no layer has yet, relative to the home."""
        return f"{LINKS}/{os.urandom(_NAME_LENGTH).translate(_OF_BYTE).decode()}"

    def write(self, directory: str, link: str, lowers: Sequence[str], *, volatile: bool) -> None:
        """Write the files of a new layer.

        Args:
            directory: the layer's directory, while it is being made.
            link: the layer's own link, from `new_link`.
            lowers: the links of the layers below, nearest first.
            volatile: whether the layer is mounted with ``volatile``, if it is mounted at all.

        Raises:
            OSError: a file cannot be written.
        """
        # Nobody sees the files before the directory is renamed.
        write_new(f"{directory}/{_LINK}", link.removeprefix(f"{LINKS}/"), 0o644)
        if lowers:
            write_new(f"{directory}/{_LOWER}", ":".join(lowers), 0o644)
        if volatile and lowers:
            write_new(f"{directory}/{_VOLATILE}", "", 0o644)

    def mark_first(self, id: str) -> None:
        """Note that a layer has a work directory, and no layer below: its list is not lost.

        Raises:
            OSError: it cannot be written.
        """
        _write(self.path(id, _LOWER), _FIRST)

    def make_link(self, id: str, link: str, part: str = DIFF) -> None:
        """Make a link to one of a layer's directories.

        Raises:
            OSError: it cannot be made; FileExistsError if it exists.
        """
        os.symlink(f"../{id}/{part}", self.path(link))

    def remove_link(self, link: str) -> None:
        """Remove a link; succeed if it does not exist.

        Raises:
            OSError: it cannot be removed.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(link))

    def commit(self, id: str) -> bool:
        """Mark a layer as a parent, read-only from now on; return whether it was not marked before.

        Raises:
            OSError: the mark cannot be written.
        """
        if self.is_committed(id):
            return False
        _write(self.path(id, _COMMITTED), "")
        return True

    def uncommit(self, id: str) -> None:
        """Remove the mark of `commit`, if making the child failed.

        Raises:
            OSError: it cannot be removed.
        """
        os.unlink(self.path(id, _COMMITTED))

    # --- reading ----------------------------------------------------------------------------------

    def is_committed(self, id: str) -> bool:
        """Tell whether a layer has, or had, a child."""
        return os.path.exists(self.path(id, _COMMITTED))

    def is_unwritten(self, id: str) -> bool:
        """Tell whether a layer's upper directory is empty."""
        with os.scandir(self.path(id, DIFF)) as entries:
            return next(entries, None) is None

    def is_volatile(self, id: str) -> bool:
        """Tell whether a layer is mounted with ``volatile``."""
        return os.path.exists(self.path(id, _VOLATILE))

    def link_of(self, id: str) -> str:
        """Return the name of a layer's own link, relative to the home.

        Raises:
            GraphDriverError: the file that holds it is damaged or missing.
        """
        path = self.path(id, _LINK)
        try:
            link = f"{LINKS}/{read_text(path).strip()}"
        except (FileNotFoundError, ValueError) as error:
            raise _lost("link", id, path) from error
        # A name from a damaged file is never followed: it could lead out of the home.
        if self.link_name.fullmatch(link):
            return link
        raise _lost("link", id, path)

    def lowers(self, id: str) -> list[str]:
        """Return the links of the layers below a layer, nearest first, relative to the home.

        Raises:
            GraphDriverError: the file that holds them is damaged or missing.
        """
        path = self.path(id, _LOWER)
        try:
            names = read_text(path).strip().split(":")
        except FileNotFoundError:
            # A layer without a parent has no work directory: it is never mounted.
            if not os.path.isdir(self.path(id, WORK)):
                return []
            raise _lost(_LOWERS, id, path) from None
        except ValueError as error:
            raise _lost(_LOWERS, id, path) from error
        if names == [_FIRST]:
            return []
        if not all(map(self.link_name.fullmatch, names)):
            raise _lost(_LOWERS, id, path)
        return names

    def lower_directories(self, id: str) -> list[str]:
        """Return the paths of the directories of the layers below a layer, nearest first.

        Raises:
            GraphDriverError: the list of lower layers, or one of the links in it, was lost.
            OSError: they cannot be read now.
        """
        return self.directories(self.lowers(id), id)

    def directories(self, links: Sequence[str], id: str) -> list[str]:
        """Return the paths of the directories that links lead to; see `target`."""
        return [self.path(*self.target(link, id)) for link in links]

    def parent_of(self, id: str) -> str:
        """Return a layer's parent, ``""`` if it has none; errors as for `lower_directories`."""
        lowers = self.lowers(id)
        return self.target(lowers[0], id)[0] if lowers else ""

    def target(self, link: str, id: str) -> tuple[str, str]:
        """Return the layer that a link leads to, and which directory of it.

        Args:
            link: relative to the home.
            id: the layer that lists the link.

        Raises:
            GraphDriverError: the link was lost.
            OSError: it cannot be read now.
        """
        path = self.path(link)
        found = None
        try:
            found = _TARGET.fullmatch(os.readlink(path))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL):  # not missing, and a symlink
                raise
        if not found or found[2] not in self.parts:
            raise _lost(_LOWERS, id, f"{path} or {self.path(id, _LOWER)}")
        return found[1], found[2]

    # --- the sweep at start -----------------------------------------------------------------------

    def sweep_links(self, layers: Collection[str]) -> None:
        """Remove dangling links, and make missing links again.

        Errors are ignored: a home that cannot be written to is served as it is.
        """
        links = self.path(LINKS)
        for name in os.listdir(links):
            if not os.path.exists(os.path.join(links, name)):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(links, name))
        for id in layers:
            with contextlib.suppress(GraphDriverError, OSError):  # mostly FileExistsError
                self.make_link(id, self.link_of(id))


def _lost(what: str, id: str, path: str) -> GraphDriverError:
    return GraphDriverError(
        f"the {what} of layer {id} was lost, most likely in a power cut: {path} is damaged or missing",
        hint="remove the layer, and load its image again",
    )


def _write(path: str, text: str) -> None:
    # Not synced, and a new layer's files neither: an applied layer is synced as a whole afterwards
    # (syncfs), and a sync for each file would make every Create slower. After a power cut the file of a
    # container's layer may be empty.
    write_whole(path, text, 0o644, sync=False)
