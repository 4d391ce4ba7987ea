"""All cases for snapshotters, a module for each group."""

from __future__ import annotations

from typing import Final

from graphdriver.conformance.case import Group
from graphdriver.conformance.snapshots.cases import content, metadata, mounts, refusals
from graphdriver.conformance.snapshots.kit import SnapshotKit

GROUPS: Final[tuple[Group[SnapshotKit], ...]] = (
    metadata.GROUP,
    refusals.GROUP,
    mounts.GROUP,
    content.GROUP,
)
"""All groups, in the order in which they are run."""
