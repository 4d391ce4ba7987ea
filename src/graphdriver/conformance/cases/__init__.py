"""All cases for graph drivers, a module for each group."""

from __future__ import annotations

from typing import Final

from graphdriver.conformance.case import Group
from graphdriver.conformance.cases import layers
from graphdriver.conformance.kit import Kit

GROUPS: Final[tuple[Group[Kit], ...]] = (layers.GROUP,)
"""All groups, in the order in which they are run: what stands later relies on what stands before."""
