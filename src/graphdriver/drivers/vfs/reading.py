"""The layers of a home as its files describe them, whether or not a process serves it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from graphdriver.files.small_files import read_text
from graphdriver.homes import StoredLayer
from graphdriver.store import layers_in

ROOT = "root"
"""The directory of a layer with its tree."""
MADE = "made"
"""The file of a layer with its parent's ID."""


def stored_layers(home: str) -> Iterator[StoredLayer]:
    """Yield all layers; see `graphdriver.homes.ReadsHome.stored_layers`."""
    for id in layers_in(home):
        path = f"{home}/{id}/{ROOT}"
        yield StoredLayer(id, _parent_in(home, id), path if os.path.isdir(path) else "")


def _parent_in(home: str, id: str) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        parent = read_text(f"{home}/{id}/{MADE}")
        if parent.isprintable() and "/" not in parent:  # a damaged file may hold any text
            return parent
    return None
