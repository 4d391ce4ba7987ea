"""The mapping of ids inside layers to ids on disk, and back.

A map is a list of ranges (user_namespaces(7)); an empty one means that ids are the same on both sides.
An id outside all ranges has no owner on the other side, so it is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphdriver.driver import IDMap
from graphdriver.errors import GraphDriverError


def to_host(maps: Sequence[IDMap], id: int) -> int:
    """Return the id on disk of an id inside a layer.

    Raises:
        GraphDriverError: no range of ``maps`` holds it. The caller adds the name of the entry.
    """
    if not maps:
        return id
    for ids in maps:
        if ids.container_id <= id < ids.container_id + ids.size:
            return id - ids.container_id + ids.host_id
    raise GraphDriverError(
        f"id {id} is outside the daemon's id maps", hint="give its user a larger range of ids"
    )


def to_container(maps: Sequence[IDMap], id: int) -> int:
    """Return the id inside a layer of an id on disk.

    Raises:
        GraphDriverError: no range of ``maps`` holds it. The caller adds the name of the entry.
    """
    if not maps:
        return id
    for ids in maps:
        if ids.host_id <= id < ids.host_id + ids.size:
            return id - ids.host_id + ids.container_id
    raise GraphDriverError(f"id {id} on disk is outside the daemon's id maps")
