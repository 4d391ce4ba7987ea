"""Every fault: imports the modules that hold them."""

from __future__ import annotations

from tests.conformance.faults import (
    activation,
    broken_calls,
    concurrency,
    errors,
    hostile_tars,
    inits,
    layers,
    leftovers,
    references,
    restart,
    streams,
)
from tests.conformance.faults.fault import FAULTS

__all__ = [
    "FAULTS",
    "activation",
    "broken_calls",
    "concurrency",
    "errors",
    "hostile_tars",
    "inits",
    "layers",
    "leftovers",
    "references",
    "restart",
    "streams",
]
