"""The layers of a home as the filesystem describes them, whether or not a process serves it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from graphdriver.drivers.btrfs.subvolumes import ROOT
from graphdriver.drivers.btrfs.touched import made_since, touched_since
from graphdriver.files.directories import opened
from graphdriver.homes import SizedChange, StoredLayer
from graphdriver.layer.change_list import sized
from graphdriver.layer.changes import compare
from graphdriver.linux import btrfs
from graphdriver.store import layers_in

_NO_PARENT = bytes(16)


def stored_layers(home: str) -> Iterator[StoredLayer]:
    """Yield all layers; see `graphdriver.homes.ReadsHome.stored_layers`."""
    found = {id: _subvolume(f"{home}/{id}/{ROOT}") for id in layers_in(home)}
    ids = {one.uuid: id for id, one in found.items() if one}
    ids[_NO_PARENT] = ""
    for id, one in found.items():
        path = f"{home}/{id}/{ROOT}"
        yield StoredLayer(
            id, ids.get(one.parent_uuid) if one else None, path if os.path.isdir(path) else ""
        )


def stored_changes(home: str, id: str, parent: str) -> Iterator[SizedChange]:
    """Yield the changes of a layer; see `graphdriver.homes.ReadsChanges.stored_changes`."""
    with opened(f"{home}/{id}/{ROOT}") as upper:
        if not parent:
            yield from sized(compare(upper, None))
            return
        with opened(f"{home}/{parent}/{ROOT}") as lower:
            stamp, touched = made_since(upper, lower), touched_since(upper, lower)
            yield from sized(compare(upper, lower, untouched_before_ns=stamp, touched=touched))


def _subvolume(path: str) -> btrfs.Subvolume | None:
    """Return a layer's subvolume; None if there is only a plain directory, or nothing."""
    with contextlib.suppress(OSError), opened(path) as fd:
        if btrfs.is_subvolume(fd):
            return btrfs.subvolume_of(fd)
    return None
