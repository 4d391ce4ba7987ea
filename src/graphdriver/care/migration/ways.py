"""The choice of the way in which the layers of one side are brought to the other."""

from __future__ import annotations

from graphdriver.care.migration.copying import CopyTransfer
from graphdriver.care.migration.moving import MoveTransfer
from graphdriver.care.migration.plan import Side, Transfer
from graphdriver.errors import UnsupportedError


def way_over(source: Side, target: Side, *, keeps: bool) -> Transfer:
    """Return the way from one side to the other.

    Args:
        source: the old side.
        target: the new side.
        keeps: whether the old side's layers stay.

    Raises:
        UnsupportedError: there is none.
    """
    if source.driver != target.driver:
        raise UnsupportedError(
            f"layers of {source.driver} cannot become layers of {target.driver}",
            hint="save and load the images instead",
        )
    return CopyTransfer(source, target) if keeps else MoveTransfer(source, target)
