"""A layer upon a parent, kept in either form, and looked at as a container would see it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from graphdriver.driver import IDMap
from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.unpack import Unpacked
from tests.layer.conftest import Layer, remove
from tests.support.overlays import mounted_overlay, opened

FORMS = ("plain", "overlay")


class UponParent:
    """A parent and a layer upon it.

    In the plain form both are one tree: a layer begins as a copy of its parent. In the overlay form
    they are two folders, and what a container sees is a mount of both.

    Args:
        folder: an existing one, for all this.
        form: one of `FORMS`.
    """

    def __init__(self, folder: Path, form: str) -> None:
        self._folder = folder
        self._lower = Layer(folder / "lower")
        self._lower.root.mkdir()
        self.layer = self._lower
        self._is_overlay = form == "overlay"
        if self._is_overlay:
            self.layer = Layer(folder / "upper")
            self.layer.root.mkdir()

    def below(self, data: bytes) -> None:
        """Unpack the parent's tar."""
        self._lower.unpack(data)

    def unpack(self, data: bytes, maps: tuple[IDMap, ...] = ()) -> Unpacked:
        """Unpack the layer's tar."""
        if not self._is_overlay:
            return self.layer.unpack(data, uid_maps=maps, gid_maps=maps)
        with opened(self._lower.root) as lowers:
            return self.layer.unpack(
                data, uid_maps=maps, gid_maps=maps, form=partial(UpperDirectory, lowers=lowers)
            )

    @contextlib.contextmanager
    def shown(self) -> Iterator[Layer]:
        """Give the tree that a container sees."""
        if not self._is_overlay:
            yield self.layer
            return
        with mounted_overlay(self._folder, [self._lower.root], self.layer.root) as merged:
            yield Layer(merged)

    def close(self) -> None:
        """Remove all."""
        for root in {self._lower.root, self.layer.root}:
            remove(root)
