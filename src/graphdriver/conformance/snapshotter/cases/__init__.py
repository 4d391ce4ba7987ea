"""All cases for snapshotters, a module for each group."""

from __future__ import annotations

from typing import Final

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.snapshotter.cases import (
    content,
    diff,
    exports,
    metadata,
    mounts,
    rebase,
    refusals,
)
from graphdriver.conformance.snapshotter.kit import Kit

GROUPS: Final[tuple[Group[Kit], ...]] = (
    metadata.GROUP,
    refusals.GROUP,
    mounts.GROUP,
    content.GROUP,
    diff.GROUP,
    rebase.GROUP,
    exports.GROUP,
)
"""All groups."""

FIRST: Final = (
    "metadata/kinds-names-and-parents",
    "metadata/committed-key-is-gone",
    "mounts/prepare-is-writable",
    "mounts/mounts-are-repeated",
    "content/chain-of-snapshots",
    "content/siblings-are-apart",
    "refusals/missing-keys",
    "refusals/used-keys",
    "refusals/removed-children-first",
)
"""The cases to solve first: a snapshotter that passes them runs simple images."""
