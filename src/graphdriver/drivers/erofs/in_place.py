"""The applied parts of layers whose tars stay in a store: the index is here, the data are there.

Which layers these are, and what is known of their tars, is in `ID/layer.place`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from typing import Final

from graphdriver.driver import IDMap
from graphdriver.drivers.erofs.layout import APPLIED, IMAGE, ImageLayout
from graphdriver.drivers.erofs.place import Place
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.files.directories import opened
from graphdriver.in_place import SharedImage, TarInPlace
from graphdriver.layer.erofs.below import OpenBelow
from graphdriver.layer.erofs.index import HEAD
from graphdriver.layer.erofs.record import Kind, Record, parse
from graphdriver.layer.erofs.store import NotHeldError, index_beside

_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class PartsInPlace:
    """The applied parts in a home whose tars are in a store (`graphdriver.in_place.ReadsInPlace`).

    Args:
        layout: the home's files.
    """

    def __init__(self, layout: ImageLayout) -> None:
        self._layout = layout

    def store(
        self,
        id: str,
        image: SharedImage,
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
        below: OpenBelow,
    ) -> int:
        """Make the tree that a tar in a store shows; arguments as for `AppliedParts.store`.

        Returns:
            The sum of the sizes in the tar's headers, in bytes.

        Raises:
            UnsupportedError: the image cannot be used so.
            GraphDriverError: the store cannot be read.
            OSError: the index cannot be written.
        """
        headers = hashlib.sha256(image.headers).hexdigest() if image.headers else ""
        place = Place(image.directory, image.name, headers=headers)
        wanted = dataclasses.replace(
            _record_of(image), uid_maps=tuple(uid_maps), gid_maps=tuple(gid_maps)
        )
        os.mkdir(self._layout.path(id, APPLIED), 0o755)
        record = _write_index(
            self._layout.path(id, IMAGE), place, wanted, below, headers=image.headers
        )
        self._layout.write_place(id, place)
        self._layout.write_record(id, record)
        return record.size

    def leave(self, id: str, image: SharedImage, below: OpenBelow) -> None:
        """Give up the tar of a layer for one in a store.

        Raises:
            UnsupportedError: the layer has no tar of its own in its image, or the store another one.
            GraphDriverError: the store cannot be read.
            OSError: the index cannot be written.
        """
        record, other = self._layout.record(id), _record_of(image)
        if record.kind is not Kind.IMAGE or record.has_own_tar:
            raise UnsupportedError(f"leave layer {id} in place: its tar is in no image")
        if (record.sha256, record.tar_size) != (other.sha256, other.tar_size):
            raise UnsupportedError(f"leave layer {id} in place: the store has another tar")
        place = Place(image.directory, image.name, is_proved=True)
        path = self._layout.path(id, IMAGE)
        fresh = self._layout.path(id, f".{IMAGE}.new")
        with contextlib.suppress(FileNotFoundError):  # left by a kill
            os.unlink(fresh)
        try:
            _write_index(fresh, place, record, below)
            with opened(self._layout.path(id)) as layer:
                # In this order: an image that holds its tar needs no place, and works with one.
                self._layout.write_place(id, place)
                os.fsync(layer)
                os.rename(fresh, path)
                os.fsync(layer)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise

    def find(self, id: str) -> TarInPlace | None:
        """Return what is known of a layer's tar in a store; None if it is in the home.

        Raises:
            LayerDamagedError: the layer's record, or that of the tar's place, is damaged.
            OSError: they cannot be read now.
        """
        place = self._layout.place(id)
        if place is None:
            return None
        image = SharedImage(place.directory, place.name, self._layout.record(id).text())
        return TarInPlace(id, image, place.is_proved, place.wrong, place.headers)

    def judge(self, id: str, wrong: str) -> None:
        """Note what is known of a layer's tar; see `graphdriver.in_place.ReadsInPlace.judge_tar`."""
        if place := self._layout.place(id):
            judged = dataclasses.replace(place, is_proved=not wrong, wrong=wrong)
            with contextlib.suppress(FileNotFoundError):  # the layer was just removed
                self._layout.write_place(id, judged)


def _record_of(image: SharedImage) -> Record:
    """Return the record of an image in a store, whose tar `index_beside` expects behind the head."""
    try:
        record = parse(image.record)
    except ValueError as error:
        raise UnsupportedError(f"the record of {image.name} is damaged: {error}") from error
    if record.kind is not Kind.IMAGE or record.tar_offset != HEAD:
        raise UnsupportedError(f"{image.name} is no image that holds its tar")
    return record


def _write_index(
    path: str, place: Place, record: Record, below: OpenBelow, headers: bytes = b""
) -> Record:
    """Write a new index for a tar in a store; return its record."""
    with contextlib.ExitStack() as held:
        try:
            image = place.open()
        except OSError as error:
            raise GraphDriverError(place.unreadable(error.strerror or str(error))) from error
        held.callback(os.close, image)
        fd = os.open(path, _NEW, 0o600)
        held.callback(os.close, fd)
        try:
            made = index_beside(record, fd, below=below, image_fd=image, headers=headers)
        except NotHeldError as error:
            raise UnsupportedError(f"the tar cannot be read in place: {error}") from error
        os.fsync(fd)
        return made
