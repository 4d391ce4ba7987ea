"""All cases for graph drivers, a module for each group."""

from __future__ import annotations

from typing import Final

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.plugin.cases import (
    activation,
    attributes,
    broken_calls,
    chains,
    changes,
    concurrency,
    dialects,
    errors,
    hostile_tars,
    id_maps,
    inits,
    layers,
    leftovers,
    links,
    reference_counts,
    restart,
    round_trips,
    sizes,
    special_files,
    streams,
    whiteouts,
    written,
)
from graphdriver.conformance.plugin.kit import Kit

GROUPS: Final[tuple[Group[Kit], ...]] = (
    activation.GROUP,
    inits.GROUP,
    layers.GROUP,
    reference_counts.GROUP,
    errors.GROUP,
    chains.GROUP,
    written.GROUP,
    round_trips.GROUP,
    dialects.GROUP,
    changes.GROUP,
    sizes.GROUP,
    whiteouts.GROUP,
    links.GROUP,
    attributes.GROUP,
    special_files.GROUP,
    id_maps.GROUP,
    broken_calls.GROUP,
    concurrency.GROUP,
    restart.GROUP,
    hostile_tars.GROUP,
    streams.GROUP,
    leftovers.GROUP,
)
"""All groups, in the order of the documentation."""

FIRST: Final = (
    "activation/implements-graphdriver",
    "layers/remove-of-nothing-succeeds",
    "layers/exists-from-create-to-remove",
    "layers/new-layer-is-empty",
    "layers/gets-nest",
    "written/stays-when-put",
    "inits/init-is-repeated",
    "chains/child-shows-its-parent",
    "chains/siblings-are-apart",
    "errors/missing-layer-is-an-error",
    "dialects/ustar",
    "whiteouts/deletes-in-the-layers-below",
    "chains/ten-written-layers",
    "concurrency/applied-while-a-diff-is-read",
)
"""The cases to solve first: a plugin that passes them runs simple images, and can pass the others."""
