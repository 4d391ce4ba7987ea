"""Every fault: imports the modules that hold them."""

from __future__ import annotations

from tests.conformance.snapshot_faults import content, metadata, refusals, shown
from tests.conformance.snapshot_faults.fault import FAULTS

__all__ = ["FAULTS", "content", "metadata", "refusals", "shown"]
