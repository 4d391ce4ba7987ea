"""The layers of a home as its files describe them, whether or not a process serves it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from graphdriver.abilities import Usage
from graphdriver.drivers.erofs.layout import APPLIED, RECORD, ImageLayout
from graphdriver.drivers.erofs.names import Names, applied_names, changes, expect_few, written_names
from graphdriver.drivers.overlay.layout import DIFF, LINKS
from graphdriver.drivers.overlay.mounter import MAX_LOWERS
from graphdriver.drivers.overlay.reading import parent_in
from graphdriver.files.directories import opened
from graphdriver.files.small_files import read_text
from graphdriver.homes import SizedChange, StoredLayer
from graphdriver.layer.erofs.record import LIMIT, Kind, parse
from graphdriver.store import layers_in

_BLOCK = 512  # the unit of st_blocks (inode(7))


def stored_layers(home: str) -> Iterator[StoredLayer]:
    """Yield all layers; see `graphdriver.homes.ReadsHome.stored_layers`."""
    layout = ImageLayout(home)
    for id in layers_in(home, (LINKS,)):
        yield _stored(layout, id)


def stored_changes(home: str, id: str, parent: str) -> Iterator[SizedChange]:
    """Yield the changes of a layer; see `graphdriver.homes.ReadsChanges.stored_changes`."""
    layout = ImageLayout(home)
    mine, below = _parts(layout, id), list[Names]()
    while parent and len(below) <= 2 * MAX_LOWERS:
        below += _parts(layout, parent)
        expect_few([*mine, *below])
        parent = layout.parent_of(parent)
    return changes(mine, below)


def _parts(layout: ImageLayout, id: str) -> list[Names]:
    """Return the names in a layer: those written to it, then those that were applied."""
    with opened(layout.path(id, DIFF)) as upper:
        parts = [written_names(upper)]
    if layout.is_applied(id):
        record = layout.path(id, RECORD)
        parts.append(applied_names(layout.path(id), record, os.stat(record).st_ctime_ns))
    return parts


def _stored(layout: ImageLayout, id: str) -> StoredLayer:
    upper = layout.path(id, DIFF)
    path = upper if os.path.isdir(upper) else ""
    parent = parent_in(layout, id)
    if not layout.is_applied(id):
        return StoredLayer(id, parent, path)
    try:
        record = parse(read_text(layout.path(id, RECORD), LIMIT))
        files = tuple(layout.files_of(id, record))
        blocks = sum(os.lstat(file).st_blocks for file in files)
        if record.kind is Kind.TREE:
            return StoredLayer(id, parent, path, beside=(*files, layout.path(id, APPLIED)))
        usage = None
        if path and layout.is_unwritten(id):  # then there is nothing to walk through
            usage = Usage((blocks + os.lstat(upper).st_blocks) * _BLOCK, 1 + len(files))
    except (OSError, ValueError):  # damaged
        return StoredLayer(id, parent, path)
    return StoredLayer(id, parent, path, usage, beside=files)
