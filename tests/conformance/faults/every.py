"""Every fault: imports the modules that hold them."""

from __future__ import annotations

from tests.conformance.faults import (
    activation,
    attributes,
    broken_calls,
    chains,
    changes,
    concurrency,
    errors,
    hostile_tars,
    inits,
    layers,
    leftovers,
    links,
    references,
    restart,
    round_trips,
    streams,
    whiteouts,
)
from tests.conformance.faults.fault import FAULTS

__all__ = [
    "FAULTS",
    "activation",
    "attributes",
    "broken_calls",
    "chains",
    "changes",
    "concurrency",
    "errors",
    "hostile_tars",
    "inits",
    "layers",
    "leftovers",
    "links",
    "references",
    "restart",
    "round_trips",
    "streams",
    "whiteouts",
]
