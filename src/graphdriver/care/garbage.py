"""Layers that no record of an engine names, and that nothing stands on: garbage.

A killed daemon leaves them: it creates a layer first, and records it when the layer is complete. It
never asks for such a layer again. A layer is garbage only if

- no daemon runs: what a daemon just makes is not recorded yet (`graphdriver.care.engine_locks`);
- all records that could name it were read (`graphdriver.care.owners.EngineRecords.unread`);
- no layer that is recorded has it as a parent, near or far;
- it is not mounted: a process that the daemon left may run on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphdriver.abilities import ability
from graphdriver.care.containerd_records import SnapshotRow
from graphdriver.care.owners import EngineRecords
from graphdriver.care.usage import count_usage
from graphdriver.drivers.layer_checks import NO_LAYER, NOT_OURS
from graphdriver.drivers.loading import load_installed
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.homes import ChecksHome, ReadsHome, StoredLayer
from graphdriver.linux.mountinfo import mounts_in

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Garbage:
    """A layer, or a snapshot, that can be removed.

    Attributes:
        id: the layer's ID, or the snapshot's key.
        parent: that of its parent; ``""``: it has none; None: unknown.
        size: the disk usage of its own content in bytes; None: unknown.
    """

    id: str
    parent: str | None
    size: int | None


def layers_in(home: str, driver: str) -> dict[str, StoredLayer]:
    """Return all layers in a home, without directories that are none: somebody may keep them there.

    Args:
        home: the home.
        driver: the name of its driver.

    Raises:
        UnsupportedError: the driver is not installed, or cannot list its layers.
        OSError: the home cannot be read.
    """
    cls = load_installed(driver)
    reads = ability(cls, ReadsHome)
    if reads is None:
        raise UnsupportedError(
            f"the driver {driver} cannot list its layers",
            hint="its class needs the ability graphdriver.homes.ReadsHome",
        )
    checks = ability(cls, ChecksHome)
    found = checks.check_home(home) if checks else ()
    strange = {NOT_OURS, *(one.layer for one in found if one.code == NO_LAYER)}
    return {one.id: one for one in reads.stored_layers(home) if one.id not in strange}


def mounted_in(home: str) -> frozenset[str]:
    """Return the layers in a home on whose directories something is mounted."""
    return frozenset(mounts_in(home))


def unrecorded(
    layers: Mapping[str, StoredLayer], records: EngineRecords, mounted: frozenset[str] = frozenset()
) -> list[Garbage]:
    """Return the layers that no record names, children before their parents.

    Args:
        layers: all layers in the home.
        records: the engine's records.
        mounted: layers that are kept, since they are mounted.

    Raises:
        GraphDriverError: a record could not be read, no record is of one of these layers, or it is
            unknown on which layers one stands.
    """
    _expect_all_read(records.unread)
    if layers and layers.keys().isdisjoint(records.layers):
        what = (
            f"the {len(records.layers)} layers of the records are others" if records.layers else ""
        )
        raise GraphDriverError(
            f"none of the {len(layers)} layers has a record"
            f" ({what or 'there are no records at all'}), so nothing is removed",
            hint="see that the home is the one that the daemon of this data root uses; if all images"
            " and containers were removed, the whole home can be",
        )
    parents: dict[str, set[str]] = {id: {layer.parent or ""} for id, layer in layers.items()}
    for id, known in records.layers.items():
        if id in layers:
            if layers[id].parent is None and known.parent is None:
                raise GraphDriverError(
                    f"the parent of layer {id} is unknown, so nothing is removed",
                    hint="graphdriver fsck tells what is wrong with the layer",
                )
            parents[id].add(known.parent or "")
    found = unneeded(parents, records.layers.keys() | records.named | mounted)
    return [Garbage(id, layers[id].parent, _size(layers[id])) for id in found]


def unnamed(rows: Sequence[SnapshotRow], names: Collection[str]) -> list[Garbage]:
    """Return the snapshots that containerd does not name, children before their parents."""
    keys = {row.number: row.key for row in rows}
    below = {row.key: keys.get(row.parent or 0, "") for row in rows}
    sizes = {row.key: row.size for row in rows}
    found = unneeded({key: {parent} for key, parent in below.items()}, names)
    return [Garbage(key, below[key], sizes[key]) for key in found]


def _expect_all_read(unread: Sequence[str]) -> None:
    """Check that all records could be read.

    Raises:
        GraphDriverError: one could not; the text names its file.
    """
    if unread:
        more = f"; and {len(unread) - _SHOWN} more" if unread[_SHOWN:] else ""
        raise GraphDriverError(
            f"not all records of layers can be read, so nothing is removed:"
            f" {'; '.join(unread[:_SHOWN])}{more}",
            hint="repair or remove these files first",
        )


def unneeded(parents: Mapping[str, Collection[str]], needed: Collection[str]) -> list[str]:
    """Return what is not needed, itself or by a child, children before their parents.

    Args:
        parents: everything there is, and the parents of each; an unknown one is ignored.
        needed: what is needed itself.
    """
    kept: set[str] = set()
    waiting = [id for id in parents if id in needed]
    while waiting:
        id = waiting.pop()
        if id not in kept:
            kept.add(id)
            waiting += [one for one in parents[id] if one in parents]
    return list(_children_first({id: parents[id] for id in parents if id not in kept}))


def _children_first(parents: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Yield all, each after its children; what is in a circle comes last."""
    children: dict[str, int] = defaultdict(int)
    for above in parents.values():
        for id in above:
            children[id] += 1
    waiting = sorted((id for id in parents if not children[id]), reverse=True)
    left = dict.fromkeys(sorted(parents))
    while waiting:
        id = waiting.pop()
        del left[id]
        yield id
        for one in parents[id]:
            children[one] -= 1
            if one in left and not children[one]:
                waiting.append(one)
    yield from left


def _size(layer: StoredLayer) -> int | None:
    if layer.usage:
        return layer.usage.size
    try:
        return count_usage(layer).size
    except (GraphDriverError, OSError):  # a damaged layer can be removed all the same
        return None
