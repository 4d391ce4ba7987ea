"""The transfer by renames: no data is copied, and the old home keeps nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from graphdriver.care.migration.adoption import group_of
from graphdriver.care.migration.layouts import dockers_own, has_another_layout, layers_of
from graphdriver.care.migration.plan import Estimate, PlannedLayer, Refusal, Side, Way
from graphdriver.homes import DockersOwn

_RENAME: Final = 0.0005
"""Seconds for one layer, far more than a rename takes."""
_SYNC: Final = 1.0
"""Seconds until all is on disk."""


class MoveTransfer:
    """Renames layers from one side's layout to the other's; the driver stays the same.

    Args:
        source: the old side.
        target: the new side.
    """

    way: Final = Way.MOVE

    def __init__(self, source: Side, target: Side) -> None:
        self._source = source
        self._target = target
        self._own = dockers_own(source.driver)

    def refused(self, layers: Sequence[PlannedLayer]) -> Iterator[Refusal]:
        """Yield layers that the new driver could not use; see `Transfer.refused`."""
        return unusable(self._own, self._target, layers)

    def estimate(self, layers: Sequence[PlannedLayer]) -> Estimate:
        """Return what it costs; see `Transfer.estimate`."""
        return Estimate("renamed; no data is copied", _SYNC + _RENAME * len(layers), 0)

    def transfer(
        self,
        source: str,
        target: str,
        layers: Sequence[PlannedLayer],
        done: Callable[[PlannedLayer], None],
    ) -> None:
        """Rename all layers; see `Transfer.transfer`. What else is in the old home stays there."""
        is_between = self._source.is_built_in != self._target.is_built_in
        if self._own and is_between and has_another_layout(self._own):
            parents = {layer.id: layer.parent for layer in layers}
            for one in layers_of(self._source, source):
                self._move(self._own, source, target, one.id, parents.get(one.id, ""))
        else:
            with contextlib.suppress(FileNotFoundError):  # killed after it
                os.rename(source, target)
        for layer in layers:
            done(layer)

    def _move(self, own: DockersOwn, source: str, target: str, id: str, parent: str) -> None:
        unit = own.unit(source, id, is_dockers=self._source.is_built_in)
        if not os.path.isdir(unit):
            return  # it was moved before
        is_dockers = self._target.is_built_in
        group = group_of(self._target.data_root)
        own.make_place(target, id, parent, group, is_dockers=is_dockers)
        # The last step: until then the next run finds the layer in the old home.
        os.rename(unit, own.unit(target, id, is_dockers=is_dockers))


def unusable(
    own: DockersOwn | None, target: Side, layers: Sequence[PlannedLayer]
) -> Iterator[Refusal]:
    """Yield the layers that the new driver could not use."""
    for layer in layers:
        if marks := layer.unfollowed:  # made by a daemon that ran since the way was chosen
            yield Refusal(
                layer.id,
                f"its directory {os.fsdecode(marks.path)!r} has the overlay mark"
                f" {marks.attribute!r}, and {marks.count - 1} others have such marks, which mounts of"
                " the new side do not follow",
            )
        if own and target.is_built_in and (why := own.why_unusable(os.path.dirname(layer.path))):
            yield Refusal(layer.id, why)
