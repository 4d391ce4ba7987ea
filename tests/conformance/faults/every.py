"""Every fault: imports the modules that hold them."""

from __future__ import annotations

from tests.conformance.faults import layers
from tests.conformance.faults.fault import FAULTS

__all__ = ["FAULTS", "layers"]
