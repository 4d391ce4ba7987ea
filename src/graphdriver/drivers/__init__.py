"""Ready-made drivers, one file each, and how a driver is found.

Drivers are found by entry point (group ``graphdriver.drivers``), so that another package's are beside
ours, or named as ``module:Class``.
"""

from __future__ import annotations

import importlib
import importlib.metadata

from graphdriver.driver import ProtoDriver
from graphdriver.errors import GraphDriverError, UnsupportedError

ENTRY_POINTS = "graphdriver.drivers"


def available() -> dict[str, type[ProtoDriver] | GraphDriverError]:
    """Return the drivers that are installed, by name; for one that cannot be imported, why."""
    found: dict[str, type[ProtoDriver] | GraphDriverError] = {}
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            found[point.name] = load(point.value)
        except GraphDriverError as error:
            found[point.name] = error
    return found


def load(spec: str) -> type[ProtoDriver]:
    """Return a driver's class.

    Args:
        spec: the name of an installed driver, or ``module:Class``.

    Raises:
        UnsupportedError: there is no such driver, or it cannot be imported, or is none.
    """
    module, colon, name = spec.partition(":")
    if not colon:
        points = importlib.metadata.entry_points(group=ENTRY_POINTS)
        if spec not in points.names:
            raise UnsupportedError(
                f"there is no driver {spec!r}",
                hint=f"installed are {', '.join(sorted(points.names))}; or name module:Class",
            )
        module, _, name = points[spec].value.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UnsupportedError(f"driver {spec} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, ProtoDriver)):
        raise UnsupportedError(f"{spec} is no driver: it does not extend ProtoDriver")
    return found
