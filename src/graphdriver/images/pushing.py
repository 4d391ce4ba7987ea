"""The layers of an image, made as images of the driver erofs and put into a shared store."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from graphdriver.blobs.digests import Digested
from graphdriver.drivers.erofs.driver import ErofsDriver
from graphdriver.drivers.erofs.layout import ImageLayout
from graphdriver.images.archive import ArchivedLayer
from graphdriver.layer.erofs.record import Kind
from graphdriver.shared.keys import Link
from graphdriver.shared.layers import SharedLayers


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a layer.

    Attributes:
        link: its chain ID and diff ID.
        size: the length of its tar in bytes; 0 if it was not read.
        outcome: ``new``, ``there`` before, or ``not held``: no image can hold it, and a pull takes it
            from its registry.
    """

    link: Link
    size: int
    outcome: str


class Pusher:
    """Puts the layers of images into a store; a context manager that removes what it made itself.

    Args:
        shared: the layers in the store.
        home: a directory for the layers while they are made; it does not exist. It must be on a
            filesystem that the driver erofs can use, and takes their uncompressed size.
    """

    def __init__(self, shared: SharedLayers, home: str) -> None:
        self._shared = shared
        self._home = home
        self._driver = ErofsDriver()

    def __enter__(self) -> Self:
        os.mkdir(self._home, 0o700)
        try:
            # Nothing of it is needed after a crash.
            self._driver.init(self._home, [], [], [])
        except BaseException:
            shutil.rmtree(self._home)
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._driver.cleanup()
        shutil.rmtree(self._home)

    def push(self, layers: Sequence[ArchivedLayer]) -> Iterator[Pushed]:
        """Put the layers of an image into the store, unless all of them are there.

        Args:
            layers: the lowest first. A layer may depend on those below, so all are made.

        Yields:
            What became of each.

        Raises:
            BadArchiveError: a layer is damaged, or not the one that its diff ID names.
            OSError: the store does not answer, or takes no layers.
        """
        if all(self._shared.is_there(one.link) for one in layers):
            for one in layers:
                yield Pushed(one.link, 0, "there")
            return
        for one in layers:
            id, parent = _name(one.link.chain_id), _name(one.link.parent)
            if not self._driver.exists(id):
                self._make(id, parent, one)
            yield self._put(id, one.link)

    def _make(self, id: str, parent: str, layer: ArchivedLayer) -> None:
        self._driver.create(id, parent, "", {})
        try:
            with layer.opened() as stream:
                tar = Digested(stream, layer.link.diff_id)
                self._driver.apply_diff(id, parent, tar)
                while tar.read(1 << 20):  # its digest is checked at its end
                    pass
        except BaseException:
            with contextlib.suppress(Exception):
                self._driver.remove(id)
            raise

    def _put(self, id: str, link: Link) -> Pushed:
        layout = ImageLayout(self._home)
        record = layout.record(id)
        if record.kind is not Kind.IMAGE:
            return Pushed(link, record.tar_size, "not held")
        fd = layout.open_image(id)
        try:
            is_new = self._shared.put(link, fd, record)
        finally:
            os.close(fd)
        return Pushed(link, record.tar_size, "new" if is_new else "there")


def _name(chain_id: str) -> str:
    return chain_id.partition(":")[2]
