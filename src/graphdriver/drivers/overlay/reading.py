"""The layers of a home as its files describe them, whether or not a process serves it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from graphdriver.drivers.overlay.layout import DIFF, LINKS, Layout
from graphdriver.errors import GraphDriverError
from graphdriver.files.directories import opened
from graphdriver.homes import SizedChange, StoredLayer
from graphdriver.layer.change_list import sized
from graphdriver.layer.changes import compare
from graphdriver.layer.overlay.changes import compare_upper
from graphdriver.layer.overlay.whiteout import Marks
from graphdriver.store import layers_in


def stored_layers(layout: Layout) -> Iterator[StoredLayer]:
    """Yield all layers; see `graphdriver.homes.ReadsHome.stored_layers`."""
    for id in layers_in(layout.home, (LINKS,)):
        path = layout.path(id, DIFF)
        yield StoredLayer(id, parent_in(layout, id), path if os.path.isdir(path) else "")


def stored_changes(layout: Layout, id: str, marks: Marks) -> Iterator[SizedChange]:
    """Yield the changes of a layer; see `graphdriver.homes.ReadsChanges.stored_changes`.

    Args:
        layout: the home's files.
        id: the layer.
        marks: the marks in its upper directory.
    """
    with contextlib.ExitStack() as held:
        upper = held.enter_context(opened(layout.path(id, DIFF)))
        below = layout.lower_directories(id)
        if below:
            lowers = [held.enter_context(opened(path)) for path in below]
            yield from sized(compare_upper(upper, lowers, marks))
        else:
            yield from sized(compare(upper, None))


def parent_in(layout: Layout, id: str) -> str | None:
    """Return a layer's parent, ``""`` if it has none, None if the files do not tell."""
    with contextlib.suppress(GraphDriverError, OSError):
        return layout.parent_named(id)
    return None
