"""The layers of a home as its files describe them, whether or not a process serves it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from graphdriver.files.directories import opened
from graphdriver.files.small_files import read_text, write_whole
from graphdriver.homes import SizedChange, StoredLayer
from graphdriver.layer.change_list import sized
from graphdriver.layer.changes import compare
from graphdriver.store import layers_in

ROOT = "root"
"""The directory of a layer with its tree."""
MADE = "made"
"""The file of a layer with its parent's ID."""
_MOVED = "\nmoved"
"""What follows the ID in a layer that this driver did not copy: the file's time tells nothing."""


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


def noted_parent(made: str) -> str:
    """Return the parent that a layer's `MADE` names.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    parent = read_text(made).removesuffix(_MOVED)
    if not parent.isprintable() or "/" in parent:  # a damaged file may hold any text
        raise ValueError("it is not the name of a layer")
    return parent


def note_moved(directory: str, parent: str) -> None:
    """Note the parent of a layer whose tree was not made by this driver, and may differ anywhere.

    Args:
        directory: the layer's directory.
        parent: its parent, or ``""``.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole(f"{directory}/{MADE}", f"{parent}{_MOVED}", 0o600, sync=False)


def _parent_in(home: str, id: str) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        return noted_parent(f"{home}/{id}/{MADE}")
    return None
