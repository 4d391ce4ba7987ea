"""Snapshotters that are wrong in one thing each; see `tests.conformance.plugin.faults`."""

from __future__ import annotations

from tests.conformance.snapshotter.faults import content, diff, metadata, mounts, rebase, refusals
from tests.conformance.snapshotter.faults.fault import FAULTS

__all__ = ["FAULTS", "content", "diff", "metadata", "mounts", "rebase", "refusals"]
