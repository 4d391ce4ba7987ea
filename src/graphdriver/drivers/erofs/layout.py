"""The names in a home, in addition to those of the overlay family.

The docstring of the package `graphdriver.drivers.erofs` describes the layout and what a crash leaves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar, Final

from graphdriver.drivers.erofs.place import Place
from graphdriver.drivers.erofs.place import parse as parse_place
from graphdriver.drivers.overlay.layout import DIFF, Layout
from graphdriver.errors import GraphDriverError, LayerDamagedError
from graphdriver.files.directories import why_no_directory
from graphdriver.files.small_files import read_text, write_whole
from graphdriver.homes import Damage
from graphdriver.layer.erofs.record import LIMIT, Kind, Record, parse
from graphdriver.layer.erofs.whole import has_device, why_no_tar, why_not_whole

APPLIED: Final = "applied"
IMAGE: Final = "layer.erofs"
TAR: Final = "layer.tar"
RECORD: Final = "layer.json"
PLACE: Final = "layer.place"

LOST_RECORD: Final = "lost-record"
LOST_IMAGE: Final = "lost-image"
DAMAGED_IMAGE: Final = "damaged-image"
LOST_PLACE: Final = "lost-place"
NOT_IN_STORE: Final = "not-in-store"
WRONG_IN_STORE: Final = "wrong-in-store"
LOST_TREE: Final = "lost-tree"
LOST_MOUNT_POINT: Final = "lost-mount-point"

_IMAGE: Final = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_FILE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)

_APPLIED_LINK: Final = "-a"
"""The end of the name of the link to ``applied``, behind the name of the layer's own link."""


class ImageLayout(Layout):
    """The files in a home with applied layers."""

    link_name: ClassVar[re.Pattern[str]] = re.compile(rf"l/[A-Z0-9]{{26}}(?:{_APPLIED_LINK})?")
    parts: ClassVar[Sequence[str]] = (DIFF, APPLIED)
    more_files: ClassVar[Sequence[str]] = (APPLIED, IMAGE, TAR, RECORD, PLACE)

    def is_applied(self, id: str) -> bool:
        """Tell whether a layer has an applied part, whole or not.

        Any of its files is enough: if one is missing, the layer is lost, and must not look empty.
        """
        return any(os.path.lexists(self.path(id, name)) for name in self.more_files)

    def links_above(self, id: str) -> Sequence[str]:
        """Return the list of a layer's child, without the links to what shows nothing."""
        if not self.is_applied(id):
            return super().links_above(id)
        own = () if self.is_unwritten(id) else (self.link_of(id),)
        below = () if self.record(id).root_opaque else self.lowers(id)
        return (*own, self.applied_link(id), *below)

    def links_of(self, id: str, link: str) -> Sequence[tuple[str, str]]:
        """Return the links that a layer must have, each with the directory that it leads to."""
        own = super().links_of(id, link)
        return (*own, (_applied(link), APPLIED)) if self.is_applied(id) else own

    def own_link(self, link: str) -> str:
        """Return the own link of the layer that a link is one of."""
        return link.removesuffix(_APPLIED_LINK)

    def hides_layers_below(self, id: str) -> bool:
        """Tell whether the lists of the layers above end at a layer, or may."""
        with contextlib.suppress(LayerDamagedError, OSError):
            return self.is_applied(id) and self.record(id).root_opaque
        return True

    def applied_link(self, id: str) -> str:
        """Return the name of the link to a layer's ``applied``, relative to the home.

        Raises:
            LayerDamagedError: the file that holds the layer's own link is damaged or missing.
        """
        return _applied(self.link_of(id))

    def images_in(self, links: Sequence[str], id: str) -> list[str]:
        """Return the layers whose ``applied`` some of these links lead to.

        Args:
            links: relative to the home.
            id: the layer that lists them.

        Raises:
            LayerDamagedError: one of the links was lost.
            OSError: they cannot be read now.
        """
        targets = (self.target(link, id) for link in links if link.endswith(_APPLIED_LINK))
        return [layer for layer, part in targets if part == APPLIED]

    def make_applied_link(self, id: str) -> None:
        """Make the link to a layer's ``applied``, unless it exists.

        Raises:
            LayerDamagedError: as for `applied_link`.
            OSError: it cannot be made.
        """
        with contextlib.suppress(FileExistsError):
            self.make_link(id, self.applied_link(id), APPLIED)

    def leads_to_content(self, link: str) -> bool:
        """Tell whether a link leads to a layer's content."""
        if not link.endswith(_APPLIED_LINK):
            return super().leads_to_content(link)
        # Through the link to the directory that it leads to, which may be mounted on.
        beside = f"{self.home}/{link}/.."
        return all(os.access(f"{beside}/{name}", os.F_OK) for name in (IMAGE, RECORD))

    def record(self, id: str) -> Record:
        """Return the record of a layer's applied part.

        Raises:
            LayerDamagedError: it is damaged or missing.
            OSError: it cannot be read now.
        """
        path = self.path(id, RECORD)
        try:
            return parse(read_text(path, LIMIT))
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise self.lost("the record of what was applied to it", id, path) from error

    def write_record(self, id: str, record: Record) -> None:
        """Write the record of a layer's applied part, as its last file: from now on the part is whole.

        It is not synced: the framework syncs the layer as a whole.

        Raises:
            OSError: it cannot be written.
        """
        write_whole(self.path(id, RECORD), record.text(), 0o600, sync=False)

    def place(self, id: str) -> Place | None:
        """Return where in a store a layer's tar is; None: it is in the home.

        Raises:
            LayerDamagedError: the file that says it is damaged.
            OSError: it cannot be read now.
        """
        path = self.path(id, PLACE)
        try:
            return parse_place(read_text(path))
        except FileNotFoundError:
            return None
        except (NotADirectoryError, ValueError) as error:
            raise self.lost("the record of where its tar is", id, path) from error

    def write_place(self, id: str, place: Place) -> None:
        """Write where in a store a layer's tar is.

        Raises:
            OSError: it cannot be written.
        """
        write_whole(self.path(id, PLACE), place.text(), 0o600)

    def expect_trusted(self, images: Sequence[str]) -> None:
        """Check that no tar of these layers was found to be wrong in a store.

        Raises:
            LayerDamagedError: one was.
        """
        for id in images:
            place = self.place(id)
            if place and place.wrong:
                raise LayerDamagedError.of(id, _wrong(place), self.home)

    def open_image(self, id: str, *, writable: bool = False) -> int:
        """Open the file with a layer's index for reading; the caller closes the descriptor.

        Args:
            id: the layer.
            writable: open it for writing, too.

        Raises:
            LayerDamagedError: it is missing, or something else has its name.
            OSError: it cannot be opened now.
        """
        return self._open(id, self.path(id, IMAGE), writable=writable)

    def open_tar(self, id: str, record: Record) -> int:
        """Open the file with a layer's tar for reading; the same as for `open_image` applies.

        A tar in a store that cannot be read there is damage, too: the text names the store.
        """
        place = self.place(id)
        if place is None:
            return self._open(id, self._tar_path(id, record))
        if wrong := place.why_not_there(record):
            raise LayerDamagedError.of(id, wrong, self.home)
        return place.open()

    def _tar_path(self, id: str, record: Record) -> str:
        return self.path(id, TAR if record.has_own_tar else IMAGE)

    def files_of(self, id: str, record: Record) -> Sequence[str]:
        """Return the paths of the files in the home with a layer's index and its tar."""
        return sorted({self.path(id, IMAGE), self._tar_path(id, record)})

    def _open(self, id: str, path: str, *, writable: bool = False) -> int:
        try:
            fd = os.open(path, _IMAGE | (os.O_RDWR if writable else os.O_RDONLY))
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            raise self.lost("the file with its tar", id, path) from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise self.lost("the file with its tar", id, path)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def lost_content(self, id: str) -> Iterator[Damage]:
        """Yield what was lost of a layer's own content, and of what was applied to it."""
        yield from super().lost_content(id)
        if not self.is_applied(id):
            return
        try:
            record = self.record(id)
        except LayerDamagedError as error:
            text = error.problem.partition(": ")[2]
            yield Damage(LOST_RECORD, id, text, loses=True, path=self.path(id, RECORD))
            return
        yield from self._damage_of_image(id, record)
        tree = self.path(id, APPLIED)
        if wrong := why_no_directory(tree):
            text = f"its directory {APPLIED} was lost: {wrong}"
            if record.kind is Kind.TREE:
                yield Damage(LOST_TREE, id, text, loses=True, path=tree)
            elif os.path.lexists(tree):  # a missing one is made by the next mount
                yield Damage(LOST_MOUNT_POINT, id, text, "replace it by a directory", path=tree)

    def _damage_of_image(self, id: str, record: Record) -> Iterator[Damage]:
        try:
            place = self.place(id)
        except LayerDamagedError as error:
            text = error.problem.partition(": ")[2]
            yield Damage(LOST_PLACE, id, text, loses=True, path=self.path(id, PLACE))
            return
        for path in self.files_of(id, record):
            try:
                fd = self._open(id, path)
            except LayerDamagedError as error:
                text = error.problem.partition(": ")[2]
                yield Damage(LOST_IMAGE, id, text, loses=True, path=path)
                continue
            try:
                is_tar = record.has_own_tar and path == self._tar_path(id, record)
                if wrong := (why_no_tar if is_tar else why_not_whole)(fd, record):
                    text = f"the file with its tar is damaged: {path}: {wrong}"
                    yield Damage(DAMAGED_IMAGE, id, text, loses=True, path=path)
                elif not (is_tar or record.has_own_tar or place) and has_device(fd):
                    text = "the record of where its tar is was lost"
                    yield Damage(LOST_PLACE, id, text, loses=True, path=self.path(id, PLACE))
            finally:
                os.close(fd)
        if place and place.wrong:
            yield Damage(WRONG_IN_STORE, id, _wrong(place), loses=True)
        elif place and (wrong := place.why_not_there(record)):
            yield Damage(NOT_IN_STORE, id, wrong, loses=True)

    def remove_link(self, link: str) -> None:
        """Remove a layer's links, given its own one; succeed if they do not exist."""
        super().remove_link(link)
        super().remove_link(_applied(link))

    def sweep_links(self, layers: Collection[str]) -> None:
        """Remove dangling links, and make missing links again."""
        super().sweep_links(layers)
        for id in filter(self.is_applied, layers):
            with contextlib.suppress(GraphDriverError, OSError):
                self.make_applied_link(id)


def _wrong(place: Place) -> str:
    return f"its tar in a store is wrong: {place.wrong}"


def _applied(link: str) -> str:
    return f"{link}{_APPLIED_LINK}"
