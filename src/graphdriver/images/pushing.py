"""The layers of an image, made as images of the driver erofs and put into a shared store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from graphdriver.abilities import ability
from graphdriver.blobs.digests import Digested
from graphdriver.driver import Driver, ReadStream
from graphdriver.drivers.loading import make
from graphdriver.errors import BrokenStreamError, GraphDriverError, UnsupportedError
from graphdriver.files.directories import opened
from graphdriver.homes import StoresImages
from graphdriver.images.layer import ImageLayer
from graphdriver.layer.erofs.record import parse
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.shared.keys import Link
from graphdriver.shared.layers import SharedLayers

_ELSEWHERE: Final = "choose another directory with --work"


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


class _Source:
    """A layer's tar from elsewhere, whose errors a driver does not take for those of its own disk."""

    def __init__(self, stream: ReadStream) -> None:
        self._stream = stream

    def read(self, n: int, /) -> bytes:
        try:
            return self._stream.read(n)
        except OSError as error:
            raise BrokenStreamError(f"a layer's source failed: {error}") from error


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
        self._driver = _erofs()
        self._sizes: dict[str, int] = {}

    def __enter__(self) -> Self:
        try:
            os.mkdir(self._home, 0o700)
        except OSError as error:
            raise UnsupportedError(
                f"layers cannot be made in {os.path.dirname(self._home)}: {error.strerror}",
                hint=_ELSEWHERE,
            ) from error
        try:
            with self._making():
                self._driver.init(self._home, [], [], [])
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._driver.cleanup()
        self._remove()

    @contextlib.contextmanager
    def _making(self) -> Iterator[None]:
        """Let errors of a ``with`` block name the directory where layers are made."""
        try:
            yield
        except OSError as error:
            raise self._not_made(error.strerror or str(error)) from error
        except BrokenStreamError:
            raise
        except GraphDriverError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            raise self._not_made(error.problem) from error

    def _not_made(self, problem: str) -> GraphDriverError:
        return GraphDriverError(
            f"layers cannot be made in {os.path.dirname(self._home)}: {problem}",
            hint=_ELSEWHERE,
        )

    def _remove(self) -> None:
        above, name = os.path.split(self._home)
        with opened(above) as directory:
            remove_tree(directory, os.fsencode(name))

    def push(self, layers: Sequence[ImageLayer]) -> Iterator[Pushed]:
        """Put the layers of an image into the store, unless all of them are there.

        Args:
            layers: the lowest first. A layer may depend on those below, so all are made.

        Yields:
            What became of each.

        Raises:
            BadArchiveError: a layer is damaged, or not the one that its diff ID names.
            BrokenStreamError: a layer cannot be read where it comes from.
            GraphDriverError: a layer cannot be made.
            OSError: the store does not answer, or takes no layers.
        """
        if all(self._shared.is_there(one.link) for one in layers):
            for one in layers:
                yield Pushed(one.link, 0, "there")
            return
        for one in layers:
            id, parent = _name(one.link.chain_id), _name(one.link.parent)
            if id not in self._sizes:
                self._sizes[id] = self._make(id, parent, one)
            yield self._put(id, one.link, self._sizes[id])

    def _make(self, id: str, parent: str, layer: ImageLayer) -> int:
        """Make a layer; return the length of its tar in bytes."""
        with self._making():
            self._driver.create(id, parent, "", {})
        try:
            with layer.opened() as stream:
                tar = Digested(_Source(stream), layer.link.diff_id)
                with self._making():
                    self._driver.apply_diff(id, parent, tar)
                while tar.read(1 << 20):  # its digest is checked at its end
                    pass
                return tar.size
        except BaseException as error:
            with contextlib.suppress(Exception):
                self._driver.remove(id)
            if isinstance(error, OSError):  # not of the store that gets the layers
                raise GraphDriverError(
                    f"the layer {layer.link.diff_id} cannot be read, or not be made in"
                    f" {self._home}: {error}"
                ) from error
            raise

    def _put(self, id: str, link: Link, size: int) -> Pushed:
        stores = ability(type(self._driver), StoresImages)
        image = stores.stored_image(self._home, id) if stores else None
        if image is None:
            return Pushed(link, size, "not held")
        try:
            is_new = self._shared.put(link, image.fd, parse(image.record))
        finally:
            image.close()
        return Pushed(link, size, "new" if is_new else "there")


def _erofs() -> Driver:
    driver = make("erofs")
    assert isinstance(driver, Driver)
    return driver


def _name(chain_id: str) -> str:
    return chain_id.partition(":")[2]
