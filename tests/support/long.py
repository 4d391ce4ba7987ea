"""Numbers that are small in the gate (`.ci/run`) and `make test`, and large in `make test-long`."""

from __future__ import annotations

import os
from typing import Final

LONG: Final = os.environ.get("GRAPHDRIVER_LONG") == "1"
"""Whether this is `make test-long`. Tests that belong there alone have the mark ``long`` instead."""


def times(gate: int, long: int) -> int:
    """Return how often a test does a thing: in the gate, or in `make test-long`."""
    return long if LONG else gate
