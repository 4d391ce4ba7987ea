"""The layers in a home of the driver erofs: what a node pulled or built becomes a source of layers.

The home is only read, and may be served meanwhile. A layer counts whose tar is stored as it came, with
all layers below it: what a container wrote has no such tar.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing

from graphdriver.abilities import ability
from graphdriver.driver import ClosableStream, ReadStream
from graphdriver.drivers.loading import make
from graphdriver.errors import LayerDamagedError, UnsupportedError
from graphdriver.homes import ReadsHome, StoredImage, StoresImages
from graphdriver.images.layer import ImageLayer
from graphdriver.layer.erofs.record import parse
from graphdriver.layer.erofs.store import stored_tar
from graphdriver.shared.keys import Link


class HomeImages:
    """The images in a home.

    Args:
        home: its absolute path.
        driver: the name of its driver.
        is_unfinished: tells of a layer whether its tar is not whole, or not yet.

    Raises:
        UnsupportedError: its driver keeps no tars.
    """

    def __init__(self, home: str, driver: str, is_unfinished: Callable[[str], bool]) -> None:
        self._home = home
        self._is_unfinished = is_unfinished
        kind = type(make(driver))
        stores, reads = ability(kind, StoresImages), ability(kind, ReadsHome)
        if not stores or not reads:
            raise UnsupportedError(
                f"the layers in {home} cannot be shared: the driver {driver} does not keep their tars",
                hint="push an archive of docker save, or the home of a driver that does: erofs",
            )
        self._stores = stores
        self._reads = reads

    def images(self) -> Iterator[Sequence[ImageLayer]]:
        """Yield the layers of each image, the lowest first: of each layer that has no child.

        Raises:
            LayerDamagedError: the tar of a layer was lost.
            OSError: the home cannot be read.
        """
        parents = {one.id: one.parent for one in self._reads.stored_layers(self._home)}
        children: dict[str, list[str]] = {}
        for id, parent in parents.items():
            if parent is not None:
                children.setdefault(parent, []).append(id)
        waiting: list[tuple[str, list[ImageLayer]]] = [("", [])]
        while waiting:
            above, layers = waiting.pop()
            below = layers[-1].link.chain_id if layers else ""
            found = [
                (id, [*layers, layer])
                for id in sorted(children.get(above, ()))
                if (layer := self._layer(id, below))
            ]
            if layers and not found:
                yield layers
            waiting += found

    def _layer(self, id: str, below: str) -> ImageLayer | None:
        if self._is_unfinished(id):
            return None
        try:
            image = self._stores.stored_image(self._home, id)
        except LayerDamagedError:
            if self._is_unfinished(id):  # somebody has begun to fill it meanwhile
                return None
            raise
        if image is None:
            return None
        with closing(image):
            link = Link(below, f"sha256:{parse(image.record).sha256.hex()}")
        return ImageLayer(link, self._opener(id))

    def _opener(self, id: str) -> Callable[[], AbstractContextManager[ReadStream]]:
        @contextlib.contextmanager
        def opened() -> Iterator[ReadStream]:
            image = self._stores.stored_image(self._home, id)
            if image is None:
                raise UnsupportedError(f"the layer {id} was removed from {self._home}")
            with closing(image), closing(_tar(image)) as tar:
                yield tar

        return opened


def _tar(image: StoredImage) -> ClosableStream:
    file = image.fd if image.tar_fd is None else image.tar_fd
    return stored_tar(parse(image.record), os.dup(file))
