"""All cases for snapshotters, a module for each group."""

from __future__ import annotations

from typing import Final

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.snapshotter.cases import content, metadata, mounts, refusals
from graphdriver.conformance.snapshotter.kit import Kit

GROUPS: Final[tuple[Group[Kit], ...]] = (
    metadata.GROUP,
    refusals.GROUP,
    mounts.GROUP,
    content.GROUP,
)
"""All groups, in the order in which they are run."""
