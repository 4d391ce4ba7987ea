"""The layers of a home as its files describe them, whether or not a process serves it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from graphdriver.files.directories import opened
from graphdriver.files.small_files import read_text
from graphdriver.homes import SizedChange, StoredLayer
from graphdriver.layer.change_list import sized
from graphdriver.layer.changes import compare
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


def stored_changes(home: str, id: str, parent: str) -> Iterator[SizedChange]:
    """Yield the changes of a layer; see `graphdriver.homes.ReadsChanges.stored_changes`."""
    with opened(f"{home}/{id}/{ROOT}") as upper:
        if not parent:
            yield from sized(compare(upper, None))
            return
        copied = None
        with contextlib.suppress(OSError, ValueError):  # damaged: the layer is compared as a whole
            copied = copied_at(f"{home}/{id}/{MADE}", parent)
        with opened(f"{home}/{parent}/{ROOT}") as lower:
            yield from sized(compare(upper, lower, untouched_before_ns=copied))


def copied_at(made: str, parent: str) -> int | None:
    """Return when a layer was a finished copy of ``parent``, in nanoseconds; None if it never was.

    Args:
        made: the layer's `MADE`.
        parent: the other layer.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    return os.stat(made).st_ctime_ns if read_text(made) == parent else None


def _parent_in(home: str, id: str) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        parent = read_text(f"{home}/{id}/{MADE}")
        if parent.isprintable() and "/" not in parent:  # a damaged file may hold any text
            return parent
    return None
