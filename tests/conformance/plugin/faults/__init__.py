"""Plugins that are wrong in one thing each, so that it is seen that the kit can fail.

A module holds the faults of the group of cases that it is named after; some also hold those of a
related group, such as `changes` those of sizes. `caught_by` names the case of each fault. A fault is
planted in a driver that works (`Broken`) or in what stands between the daemon and a plugin that works
(`Proxy`), and knows nothing of the cases. `python -m tests.conformance.plugin.faulty NAME SOCKET`
serves it.
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
