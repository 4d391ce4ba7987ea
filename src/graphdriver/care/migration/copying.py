"""The transfer that leaves the old home as it is: layers share their data with it where that is safe.

An image's layer is never written to again. Every other layer may be, on either side, so both must not
have a file in common.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from graphdriver.care.migration.adoption import group_of
from graphdriver.care.migration.layouts import dockers_own, layers_of
from graphdriver.care.migration.moving import unusable
from graphdriver.care.migration.plan import Estimate, LayerKind, PlannedLayer, Refusal, Side, Way
from graphdriver.linux import reflink

_PART: Final = ".copying"
_RATE: Final = 150e6
"""Bytes that are copied in a second."""
_LAYER: Final = 0.2
"""Seconds for a layer whose data is shared."""


class CopyTransfer:
    """Copies, links or snapshots layers from one side's layout to the other's; the driver stays.

    Args:
        source: the old side, of a driver that can copy its layers.
        target: the new side.
    """

    way: Final = Way.COPY

    def __init__(self, source: Side, target: Side) -> None:
        own = dockers_own(source.driver)
        assert own
        self._own = own
        self._source = source
        self._target = target

    def refused(self, layers: Sequence[PlannedLayer]) -> Iterator[Refusal]:
        """Yield layers that the new driver could not use; see `Transfer.refused`."""
        return unusable(self._own, self._target, layers)

    def estimate(self, layers: Sequence[PlannedLayer]) -> Estimate:
        """Return what it costs; see `Transfer.estimate`."""
        quick = 1 + _LAYER * len(layers)
        if self._source.driver == "btrfs":
            return Estimate("snapshots; no data is copied", quick, 0)
        if reflink.works_in(self._source.data_root):
            return Estimate("copies that share unchanged blocks (reflink)", quick, 0)
        how = "copies"
        copied = [*layers]
        if self._source.driver == "overlay2":
            how = "hard links for layers of images, copies for all others"
            copied = [layer for layer in layers if layer.kind is not LayerKind.IMAGE]
        written = sum(layer.size or 0 for layer in copied)
        return Estimate(how, quick + written / _RATE, written)

    def transfer(
        self,
        source: str,
        target: str,
        layers: Sequence[PlannedLayer],
        done: Callable[[PlannedLayer], None],
    ) -> None:
        """Copy all layers; see `Transfer.transfer`."""
        own, is_dockers = self._own, self._target.is_built_in
        group = group_of(self._target.data_root)
        # A daemon may have run after a kill: it may have removed layers, and written to all that are
        # not an image's.
        kept = {layer.id for layer in layers if layer.kind is LayerKind.IMAGE}
        there = [one.id for one in layers_of(self._target, target)] if os.path.isdir(target) else []
        for id in there:
            if id not in kept:
                own.remove(*os.path.split(own.unit(target, id, is_dockers=is_dockers)))
        for layer in layers:
            unit = own.unit(target, layer.id, is_dockers=is_dockers)
            if not os.path.isdir(unit):
                own.make_place(target, layer.id, layer.parent, group, is_dockers=is_dockers)
                own.remove(target, _PART)
                # Under another name: a layer is there as a whole, or not at all.
                own.copy(
                    own.unit(source, layer.id, is_dockers=self._source.is_built_in),
                    os.path.join(target, _PART),
                    is_written=layer.kind is not LayerKind.IMAGE,
                )
                os.rename(os.path.join(target, _PART), unit)
            done(layer)
        if os.path.isdir(target):
            own.remove(target, _PART)
