"""The choice of the way in which the layers of one side are transferred to the other."""

from __future__ import annotations

from collections.abc import Sequence

from graphdriver.care.migration.conversion import Conversion
from graphdriver.care.migration.copying import CopyTransfer
from graphdriver.care.migration.layouts import dockers_own
from graphdriver.care.migration.moving import MoveTransfer
from graphdriver.care.migration.plan import PlannedLayer, Side, Transfer, Way


def way_over(source: Side, target: Side, layers: Sequence[PlannedLayer], *, keeps: bool) -> Way:
    """Return the way from one side to the other.

    Args:
        source: the old side.
        target: the new side.
        layers: all layers.
        keeps: whether the old side's layers stay.
    """
    if source.driver != target.driver or any(layer.unfollowed for layer in layers):
        return Way.CONVERT
    if not keeps:
        return Way.MOVE
    return Way.COPY if dockers_own(source.driver) else Way.CONVERT


def transfer_by(way: Way, source: Side, target: Side) -> Transfer:
    """Return what transfers layers in one way.

    Raises:
        UnsupportedError: there is no such way between these sides.
        GraphDriverError: the daemon remaps user and group ids, and nothing tells how.
    """
    match way:
        case Way.MOVE:
            return MoveTransfer(source, target)
        case Way.COPY:
            return CopyTransfer(source, target)
        case Way.CONVERT:
            return Conversion(source, target)
