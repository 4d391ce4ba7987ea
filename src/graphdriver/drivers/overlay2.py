"""The driver on overlayfs: a layer is what it changed, and is shown upon the layers below it.

On disk, as Docker's own overlay2 has it::

    HOME/ID/diff        what the layer changed: the upper folder of its mount
    HOME/ID/link        the name of its link in HOME/l
    HOME/ID/lower       l/NAME:l/NAME:...: the layers below, nearest first; none in a first layer
    HOME/ID/work        overlayfs's own
    HOME/ID/committed   it has, or had, a child: from then on it is mounted without an upper folder
    HOME/ID/merged      where it is mounted, while it is
    HOME/ID/.volatile   it is mounted with ``volatile``
    HOME/l/NAME         a link to ../ID/diff: names short enough for many of them in one mount

A first layer needs no mount: its ``diff`` is its tree. What is applied, listed and packed is read and
written in ``diff`` alone, without a mount (`graphdriver.layer.overlay`, `graphdriver.layer.upper`);
against another layer than the direct parent it is the naive differ's affair.
"""

# ruff: noqa: D102 - the methods are told in graphdriver.driver
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import ClassVar

from graphdriver.driver import Change, ClosableStream, ReadStream
from graphdriver.drivers.choice import Suitability
from graphdriver.drivers.overlay_layers import OverlayLayers
from graphdriver.drivers.overlay_probe import examine
from graphdriver.layer.changes import changes_size
from graphdriver.layer.overlay import MERGED, OVERLAY
from graphdriver.layer.pack import pack
from graphdriver.layer.unpack import unpack
from graphdriver.layer.upper import UpperPacker, upper_changes
from graphdriver.naive import NaiveDiffDriver


class Overlay2Driver(NaiveDiffDriver):
    """Layers upon each other by overlayfs."""

    driver_name: ClassVar[str] = "overlay2"

    def __init__(self) -> None:
        self._layers = OverlayLayers()
        super().__init__(self._layers)

    @classmethod
    def probe(cls, home: str) -> Suitability:
        """Tell how well the driver would do in a folder, which exists."""
        kind = examine(home)
        return Suitability(30, f"layers share all that they do not change, on {kind}")

    def diff(self, id: str, parent: str) -> ClosableStream:
        if parent != self._layers.parent_of(id):
            return super().diff(id, parent)
        with self._layers.opened(id) as upper:
            if not parent:
                return pack(upper, None, uid_maps=self._uid_maps, gid_maps=self._gid_maps)
            return UpperPacker(upper, self._uid_maps, self._gid_maps, self._layers.marks)

    def changes(self, id: str, parent: str) -> Sequence[Change]:
        if not parent or parent != self._layers.parent_of(id):
            return super().changes(id, parent)
        with self._layers.opened(id) as upper, self._layers.opened_below(id) as lowers:
            return upper_changes(upper, lowers, self._layers.marks)

    def diff_size(self, id: str, parent: str) -> int:
        if not parent or parent != self._layers.parent_of(id):
            return super().diff_size(id, parent)
        with self._layers.opened(id) as upper, self._layers.opened_below(id) as lowers:
            return changes_size(upper, upper_changes(upper, lowers, self._layers.marks))

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        uid_maps, gid_maps = self._uid_maps, self._gid_maps
        with self._layers.opened(id) as upper:
            self._layers.refuse_if_stood_upon(id)
            if self._layers.is_pristine(id):
                with self._layers.opened_below(id) as lowers:
                    form = functools.partial(OVERLAY, lowers=lowers, marks=self._layers.marks)
                    done = unpack(archive, upper, uid_maps=uid_maps, gid_maps=gid_maps, form=form)
                    return done.size
        # Somebody has written to it through its mount, behind which nothing may be changed.
        with self._root(id) as root:
            done = unpack(archive, root, uid_maps=uid_maps, gid_maps=gid_maps, form=MERGED)
        return done.size
