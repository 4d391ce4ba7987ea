"""The layers of a home as its files describe them, whether or not a process serves it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from graphdriver.drivers.overlay.layout import DIFF, LINKS, Layout
from graphdriver.errors import GraphDriverError
from graphdriver.homes import StoredLayer
from graphdriver.store import layers_in


def stored_layers(layout: Layout) -> Iterator[StoredLayer]:
    """Yield all layers; see `graphdriver.homes.ReadsHome.stored_layers`."""
    for id in layers_in(layout.home, (LINKS,)):
        path = layout.path(id, DIFF)
        yield StoredLayer(id, parent_in(layout, id), path if os.path.isdir(path) else "")


def parent_in(layout: Layout, id: str) -> str | None:
    """Return a layer's parent, ``""`` if it has none, None if the files do not tell."""
    with contextlib.suppress(GraphDriverError, OSError):
        return layout.parent_of(id)
    return None
