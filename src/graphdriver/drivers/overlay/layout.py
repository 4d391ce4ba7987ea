"""The names in a home and the small files of its layers: reading, writing and repairing them.

The docstring of the package `graphdriver.drivers.overlay` describes the layout and what a crash
leaves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar, Final

from graphdriver.errors import GraphDriverError, LayerDamagedError
from graphdriver.files.directories import make_own, why_no_directory
from graphdriver.files.small_files import read_text, write_new, write_whole
from graphdriver.homes import UNKNOWN_PARENT, Damage
from graphdriver.layer.overlay.parentless import LIMIT, Unsettled, parse
from graphdriver.store import layers_in

DIFF: Final = "diff"
WORK: Final = "work"
MERGED: Final = "merged"
LINKS: Final = "l"

LOST_DIFF: Final = "lost-diff"
LOST_WORK: Final = "lost-work"

LINK: Final = "link"
LOWER: Final = "lower"

_COMMITTED: Final = "committed"
_VOLATILE: Final = ".volatile"
_UNSETTLED: Final = ".unsettled"
_LOWERS: Final = "the list of the layers below it"
"""What `LOWER` holds, for error texts."""
_NAME_LENGTH: Final = 26
_OF_BYTE: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" * 8
"""The letter of each random byte in a link's name."""
_TARGET: Final = re.compile(r"\.\./([^/]+)/([^/]+)")
_FIRST: Final = "-"
"""The content of `LOWER` in a layer that has a work directory and no layer below."""


class Layout:
    """The files in a home.

    Args:
        home: an absolute path.
    """

    link_name: ClassVar[re.Pattern[str]] = re.compile(r"l/[A-Z0-9]{26}")
    """The names of the links that layers can be mounted by."""
    parts: ClassVar[Sequence[str]] = (DIFF,)
    """The directories of a layer that links lead to."""
    more_files: ClassVar[Sequence[str]] = ()
    """The names of files and directories that only some drivers' layers have."""

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
        write_new(f"{directory}/{LINK}", link.removeprefix(f"{LINKS}/"), 0o644)
        if lowers:
            write_new(f"{directory}/{LOWER}", ":".join(lowers), 0o644)
        if volatile and lowers:
            write_new(f"{directory}/{_VOLATILE}", "", 0o644)

    def write_link(self, id: str, link: str) -> None:
        """Write the name of a layer's own link again, given relative to the home.

        Raises:
            OSError: it cannot be written.
        """
        _write(self.path(id, LINK), link.removeprefix(f"{LINKS}/"))

    def write_lowers(self, id: str, lowers: Sequence[str]) -> None:
        """Write the list of the layers below a layer again.

        Raises:
            OSError: it cannot be written.
        """
        _write(self.path(id, LOWER), ":".join(lowers) or _FIRST)

    def mark_first(self, id: str) -> None:
        """Note that a layer has a work directory, and no layer below: its list is not lost.

        Raises:
            OSError: it cannot be written.
        """
        self.write_lowers(id, ())

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

    def write_unsettled(self, id: str, unsettled: Unsettled) -> None:
        """Note what of a layer depends on the layers below, which are not known yet.

        Raises:
            OSError: it cannot be written.
        """
        _write(self.path(id, _UNSETTLED), unsettled.text())

    def remove_unsettled(self, id: str) -> None:
        """Remove what `write_unsettled` wrote, if there is any.

        Raises:
            OSError: it cannot be removed.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(id, _UNSETTLED))

    # --- reading ----------------------------------------------------------------------------------

    def is_unsettled(self, id: str) -> bool:
        """Tell whether it is noted what of a layer depends on the layers below."""
        return os.path.lexists(self.path(id, _UNSETTLED))

    def unsettled(self, id: str) -> Unsettled:
        """Return what of a layer depends on the layers below; nothing is noted of an empty layer.

        Raises:
            LayerDamagedError: the file that holds it is damaged.
        """
        path = self.path(id, _UNSETTLED)
        try:
            return parse(read_text(path, LIMIT))
        except FileNotFoundError:
            return Unsettled()
        except (NotADirectoryError, ValueError) as error:
            raise self.lost("the list of what depends on the layers below it", id, path) from error

    def is_committed(self, id: str) -> bool:
        """Tell whether a layer has, or had, a child."""
        # Where nothing is, it takes a third of the time of os.path.exists.
        return os.access(f"{self.home}/{id}/{_COMMITTED}", os.F_OK)

    def is_unwritten(self, id: str) -> bool:
        """Tell whether a layer's upper directory is empty."""
        with self.explaining(id), os.scandir(self.path(id, DIFF)) as entries:
            return next(entries, None) is None

    def is_volatile(self, id: str) -> bool:
        """Tell whether a layer is mounted with ``volatile``."""
        return os.access(f"{self.home}/{id}/{_VOLATILE}", os.F_OK)

    def link_of(self, id: str) -> str:
        """Return the name of a layer's own link, relative to the home.

        Raises:
            LayerDamagedError: the file that holds it is damaged or missing.
        """
        path = self.path(id, LINK)
        try:
            link = f"{LINKS}/{read_text(path).strip()}"
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise self.lost("the name of its link", id, path) from error
        # A name from a damaged file is never followed: it could lead out of the home.
        if self.link_name.fullmatch(link):
            return link
        raise self.lost("the name of its link", id, path)

    def links_above(self, id: str) -> Sequence[str]:
        """Return the list of a layer's child: the links of the layer and of those below it.

        Raises:
            LayerDamagedError: what it needs is lost.
        """
        return (self.link_of(id), *self.lowers(id))

    def links_of(self, id: str, link: str) -> Sequence[tuple[str, str]]:
        """Return the links that a layer must have, each with the directory that it leads to.

        Args:
            id: the layer.
            link: its own link, from `link_of`.
        """
        return ((link, DIFF),)

    def own_link(self, link: str) -> str:
        """Return the own link (`link_of`) of the layer that a link is one of."""
        return link

    def hides_layers_below(self, id: str) -> bool:
        """Tell whether the lists of the layers above end at a layer, or may."""
        return False

    def lowers(self, id: str) -> list[str]:
        """Return the links of the layers below a layer, nearest first, relative to the home.

        Raises:
            LayerDamagedError: the file that holds them is damaged or missing.
        """
        path = self.path(id, LOWER)
        try:
            names = read_text(path).strip().split(":")
        except FileNotFoundError:
            # A layer without a parent has no work directory: it is never mounted.
            if not os.path.lexists(self.path(id, WORK)):
                return []
            raise self.lost(_LOWERS, id, path) from None
        except (NotADirectoryError, ValueError) as error:
            raise self.lost(_LOWERS, id, path) from error
        if names == [_FIRST]:
            return []
        # overlayfs refuses a directory that it is given twice (ELOOP).
        if not all(map(self.link_name.fullmatch, names)) or len({*names}) < len(names):
            raise self.lost(_LOWERS, id, path)
        return names

    def lower_directories(self, id: str) -> list[str]:
        """Return the paths of the directories of the layers below a layer, nearest first.

        Raises:
            LayerDamagedError: the list of lower layers, or one of the links in it, was lost.
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

    def parent_named(self, id: str) -> str:
        """Do the same as `parent_of`, for all layers in turn: whose a lost link is, is not told."""
        lowers = self.lowers(id)
        found = self.target_of(lowers[0]) if lowers else ("", "")
        if found is None:
            raise self.lost("the link to its parent", id, self.path(lowers[0]))
        return found[0]

    def target(self, link: str, id: str) -> tuple[str, str]:
        """Return the layer that a link leads to, and which directory of it.

        Args:
            link: relative to the home.
            id: the layer that lists the link.

        Raises:
            LayerDamagedError: the link was lost.
            OSError: it cannot be read now.
        """
        found = self.target_of(link)
        if found is None:
            raise self._lost_link(link, id)
        return found

    def _lost_link(self, link: str, id: str) -> LayerDamagedError:
        """Return the error for a lost link: about the layer whose own it is, if there is one."""
        own = self.own_link(link)
        for other in layers_in(self.home, (LINKS,)):
            with contextlib.suppress(LayerDamagedError, OSError):
                if self.link_of(other) == own:
                    wrong = f"its link was lost: {self.path(link)} does not lead to it"
                    return LayerDamagedError.of(other, wrong, self.home)
        wrong = f"a layer below it was lost: {self.path(link)} leads to no layer"
        return LayerDamagedError.of(id, wrong, self.home)

    def target_of(self, link: str) -> tuple[str, str] | None:
        """Return the layer and the directory of it that a link names; None if it is no such link.

        Raises:
            OSError: it cannot be read now.
        """
        try:
            found = _TARGET.fullmatch(os.readlink(self.path(link)))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL):  # not missing, and a symlink
                raise
            return None
        return (found[1], found[2]) if found and found[2] in self.parts else None

    def lost(self, what: str, id: str, path: str) -> LayerDamagedError:
        """Return the error for a file that is damaged or missing."""
        wrong = f"{what} was lost: {path} is damaged or missing"
        return LayerDamagedError.of(id, wrong, self.home)

    def leads_to_content(self, link: str) -> bool:
        """Tell whether a link leads to a layer's content."""
        return os.access(f"{self.home}/{link}/", os.F_OK)  # the slash makes it fail for a file

    # --- damage -----------------------------------------------------------------------------------

    def lost_content(self, id: str) -> Iterator[Damage]:
        """Yield what was lost of a layer's own content, without which no layer on it works either."""
        path = self.path(id, DIFF)
        if wrong := why_no_directory(path):
            text = f"its directory {DIFF} was lost: {wrong}"
            yield Damage(LOST_DIFF, id, text, loses=True, path=path)

    def lost_parts(self, id: str) -> Iterator[Damage]:
        """Yield what was lost of a layer's own files, without which it cannot be mounted."""
        yield from self.lost_content(id)
        try:
            self.lowers(id)
        except LayerDamagedError as error:
            text = error.problem.partition(": ")[2]
            yield Damage(UNKNOWN_PARENT, id, text, loses=True, path=self.path(id, LOWER))
        path = self.path(id, WORK)
        if os.path.lexists(self.path(id, LOWER)) and (wrong := why_no_directory(path)):
            text = f"its directory {WORK} was lost: {wrong}"
            yield Damage(LOST_WORK, id, text, "make it again", path=path)

    def expect_sound(self, id: str) -> None:
        """Find the damage that made a call fail.

        Args:
            id: the layer that the call was about.

        Raises:
            LayerDamagedError: it, or a layer below it, is damaged.
            OSError: its files cannot be read now.
        """
        for damage in self.lost_parts(id):
            raise LayerDamagedError.of(id, damage.text, self.home)
        for link in self.lowers(id):
            layer, _ = self.target(link, id)
            if layer == id:
                raise self.lost(_LOWERS, id, self.path(id, LOWER))
            if self._is_of_another(link, layer):
                raise self._lost_link(link, id)
            if wrong := why_no_directory(self.path(layer)):
                wrong = f"layer {layer} below it was lost: {wrong}"
                raise LayerDamagedError.of(id, wrong, self.home)
            for damage in self.lost_content(layer):
                raise LayerDamagedError.of(layer, damage.text, self.home)

    def _is_of_another(self, link: str, layer: str) -> bool:
        """Tell whether a link is not the one of the layer that it leads to."""
        with contextlib.suppress(LayerDamagedError, OSError):
            return self.link_of(layer) != self.own_link(link)
        return False

    def explaining(self, id: str) -> Explaining:
        """Replace an OSError in a ``with`` block by the damage of a layer that caused it."""
        return Explaining(self, id)

    # --- the sweep at start -----------------------------------------------------------------------

    def sweep_links(self, layers: Collection[str]) -> None:
        """Remove dangling links, and make missing links again.

        A link that a layer has in its list stays: it tells which layer was lost. Errors are ignored: a
        home that cannot be written to is served as it is.
        """
        links = (f"{LINKS}/{name}" for name in os.listdir(self.path(LINKS)))
        if dangling := {link for link in links if not os.path.exists(self.path(link))}:
            for id in layers:
                with contextlib.suppress(GraphDriverError, OSError):
                    dangling.difference_update(self.lowers(id))
        for link in dangling:
            with contextlib.suppress(OSError):
                os.unlink(self.path(link))
        for id in layers:
            with contextlib.suppress(GraphDriverError, OSError):  # mostly FileExistsError
                self.make_link(id, self.link_of(id))


class Explaining:
    """What `Layout.explaining` returns; a class, since a generator costs microseconds."""

    __slots__ = ("_id", "_layout")

    def __init__(self, layout: Layout, id: str) -> None:
        self._layout = layout
        self._id = id

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and os.path.isdir(self._layout.path(self._id)):
            self._layout.expect_sound(self._id)  # else it was removed


def _write(path: str, text: str) -> None:
    # Not synced, and a new layer's files neither: an applied layer is synced as a whole afterwards
    # (syncfs), and a sync for each file would make every Create slower. After a power cut the file of a
    # container's layer may be empty.
    write_whole(path, text, 0o644, sync=False)
