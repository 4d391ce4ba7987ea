"""The layers of a home as the filesystem describes them, whether or not a process serves it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from graphdriver.drivers.btrfs.subvolumes import ROOT
from graphdriver.files.directories import opened
from graphdriver.homes import StoredLayer
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


def _subvolume(path: str) -> btrfs.Subvolume | None:
    """Return a layer's subvolume; None if there is only a plain directory, or nothing."""
    with contextlib.suppress(OSError), opened(path) as fd:
        if btrfs.is_subvolume(fd):
            return btrfs.subvolume_of(fd)
    return None
