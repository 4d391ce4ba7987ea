"""The small files of layers on overlays, and the links by which mounts name their directories.

Each is there whole or not at all. None is synced when it is made: after a power cut one may be empty,
and then its layer is lost.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import re
from collections.abc import Iterable, Sequence
from typing import Final

from graphdriver.errors import GraphDriverError
from graphdriver.files.directories import make_own
from graphdriver.files.small_files import read_text, write_whole

DIFF: Final = "diff"
WORK: Final = "work"
LINKS: Final = "l"

_LINK: Final = "link"
_LOWER: Final = "lower"
_COMMITTED: Final = "committed"
_VOLATILE: Final = ".volatile"
_NAME_LENGTH: Final = 26
_NAME: Final = re.compile(r"l/[A-Z0-9]{26}")
_TARGET: Final = re.compile(rf"\.\./([^/]+)/{DIFF}")


class LayerFiles:
    """The small files of the layers in a home.

    Args:
        home: an absolute path.
    """

    def __init__(self, home: str) -> None:
        self._home = home
        make_own(self._path(LINKS), 0o700)

    # --- making -----------------------------------------------------------------------------------

    @staticmethod
    def new_link() -> str:
        """Return a link's name, relative to the home, that no layer has."""
        return f"{LINKS}/{base64.b32encode(os.urandom(_NAME_LENGTH)).decode()[:_NAME_LENGTH]}"

    def write(self, folder: str, link: str, lowers: Sequence[str], *, volatile: bool) -> None:
        """Write the files of a layer that is being made in ``folder``.

        Raises:
            OSError: they cannot be written.
        """
        _write(os.path.join(folder, _LINK), link.removeprefix(f"{LINKS}/"))
        if lowers:
            _write(os.path.join(folder, _LOWER), ":".join(lowers))
        if volatile and lowers:
            _write(os.path.join(folder, _VOLATILE), "")

    def make_link(self, id: str, link: str) -> None:
        """Make a layer's link.

        Raises:
            OSError: it cannot be made; FileExistsError if it is there.
        """
        os.symlink(f"../{id}/{DIFF}", self._path(link))

    def remove_link(self, link: str) -> None:
        """Remove a link; succeed if it is not there.

        Raises:
            OSError: it cannot be removed.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(link))

    def commit(self, id: str) -> bool:
        """Note that a layer has a child; tell whether it had none before.

        Raises:
            OSError: it cannot be noted.
        """
        if self.is_committed(id):
            return False
        _write(self._path(id, _COMMITTED), "")
        return True

    def uncommit(self, id: str) -> None:
        """Undo `commit`, for a child that did not come to be.

        Raises:
            OSError: it cannot be undone.
        """
        os.unlink(self._path(id, _COMMITTED))

    # --- reading ----------------------------------------------------------------------------------

    def is_committed(self, id: str) -> bool:
        """Tell whether a layer has, or had, a child."""
        return os.path.exists(self._path(id, _COMMITTED))

    def is_volatile(self, id: str) -> bool:
        """Tell whether a layer is mounted with ``volatile``."""
        return os.path.exists(self._path(id, _VOLATILE))

    def link_of(self, id: str) -> str:
        """Return a layer's own link, relative to the home.

        Raises:
            GraphDriverError: it was lost.
        """
        path = self._path(id, _LINK)
        try:
            link = f"{LINKS}/{read_text(path).strip()}"
        except (FileNotFoundError, ValueError) as error:
            raise _lost(f"the link of layer {id}", path) from error
        if _NAME.fullmatch(link):
            return link
        raise _lost(f"the link of layer {id}", path)

    def lowers(self, id: str) -> list[str]:
        """Return the links of the layers below one, nearest first, relative to the home.

        Raises:
            GraphDriverError: they were lost.
        """
        path = self._path(id, _LOWER)
        try:
            names = read_text(path).strip().split(":")
        except FileNotFoundError:
            if not os.path.isdir(self._path(id, WORK)):  # which only a layer upon others has
                return []
            raise _lost(f"what layer {id} stands on", path) from None
        except ValueError as error:
            raise _lost(f"what layer {id} stands on", path) from error
        if not all(map(_NAME.fullmatch, names)):
            raise _lost(f"what layer {id} stands on", path)
        return names

    def lower_directories(self, id: str) -> list[str]:
        """Return the paths of the directories of the layers below one, nearest first.

        Raises:
            GraphDriverError: they were lost, or one of the links was.
            OSError: they cannot be read now.
        """
        return [self._path(self._led_to(one, id), DIFF) for one in self.lowers(id)]

    def parent_of(self, id: str) -> str:
        """Return the layer that another stands on, or ``""``; errors as of `lower_directories`."""
        lowers = self.lowers(id)
        return self._led_to(lowers[0], id) if lowers else ""

    def _led_to(self, link: str, id: str) -> str:
        """Return the layer that a link of those of ``id`` leads to."""
        path = self._path(link)
        found = None
        try:
            found = _TARGET.fullmatch(os.readlink(path))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL):  # else it is missing, or no link
                raise
        if not found:
            raise _lost(f"what layer {id} stands on", f"{path} or {self._path(id, _LOWER)}")
        return found[1]

    # --- the start --------------------------------------------------------------------------------

    def sweep_links(self, layers: Iterable[str]) -> None:
        """Remove links that lead nowhere, and make those anew that layers lost.

        A home that nothing can be written to is left as it is.
        """
        links = self._path(LINKS)
        for name in os.listdir(links):
            if not os.path.exists(os.path.join(links, name)):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(links, name))
        for id in layers:
            with contextlib.suppress(GraphDriverError, OSError):  # it is there, most often
                self.make_link(id, self.link_of(id))

    def _path(self, *parts: str) -> str:
        return os.path.join(self._home, *parts)


def _lost(what: str, path: str) -> GraphDriverError:
    return GraphDriverError(
        f"{what} was lost, in a power cut most likely: {path} is damaged or missing",
        hint="remove it; an image can be loaded again",
    )


def _write(path: str, text: str) -> None:
    write_whole(path, text, 0o644, sync=False)
