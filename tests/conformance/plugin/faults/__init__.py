"""Plugins that are wrong in one thing each, so that it is seen that the kit can fail.

Each module below holds faults of one group of cases. A fault is planted in a driver that works
(`Broken`) or in what stands between the daemon and a plugin that works (`Proxy`), and knows nothing of
the cases. `python -m tests.conformance.plugin.faulty NAME SOCKET` serves it.
"""

from __future__ import annotations

from tests.conformance.plugin.faults import (
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
    reference_counts,
    restart,
    round_trips,
    streams,
    whiteouts,
)
from tests.conformance.plugin.faults.fault import FAULTS

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
    "reference_counts",
    "restart",
    "round_trips",
    "streams",
    "whiteouts",
]
