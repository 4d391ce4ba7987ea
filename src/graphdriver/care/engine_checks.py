"""The check of a home against the engine's records: layers that are needed, and layers of nobody.

The daemon of Docker has no list of all layers that its builds have made, so a layer without a record is
the subject of ``graphdriver gc`` there. A snapshotter's database lists all of them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import Final

from graphdriver.care.engine_records import read_records
from graphdriver.care.framework_checks import UNFINISHED_LAYER
from graphdriver.care.owners import EngineRecords, Owner, OwnerKind
from graphdriver.drivers.layer_checks import NO_LAYER
from graphdriver.homes import Damage, ReadsHome

LOST_LAYER: Final = "lost-layer"
ORPHAN: Final = "orphan"
DAMAGED_DATABASE: Final = "damaged-database"
OLD_DATABASE: Final = "old-database"

_AT_A_TIME: Final = 100
"""How many numbers a snapshotter reserves for layers that it has not recorded yet."""


class EngineChecks:
    """The checks of the layers in a home against the engine's records of them.

    Args:
        engine: the engine, by the home's record.
        reads: lists the layers in the home.
    """

    def __init__(self, engine: str, reads: ReadsHome) -> None:
        self._engine = engine
        self._reads = reads

    def check_home(self, home: str) -> Iterator[Damage]:
        """Yield layers that the engine needs and that do not exist, and such that it does not know."""
        # Before the layers: the engine makes a layer before its record, and removes it before that.
        records = read_records(home, self._engine)
        if records is None:
            return
        stored = {one.id for one in self._reads.stored_layers(home)}
        for id, layer in sorted(records.layers.items()):
            if layer.owners and id not in stored:
                path = os.path.join(home, id)
                lost = "it was lost"
                if all(owner.kind is OwnerKind.BUILD_CACHE for owner in layer.owners):
                    # A data root has one build cache, whichever storage driver the daemon runs on.
                    lost += ", or made on another storage driver"
                text = f"{lost}: the {self._engine} daemon needs it, and {path} does not exist"
                yield Damage(LOST_LAYER, id, text, loses=True, path=path)
        if self._engine == "containerd":
            for reason in records.unread:
                yield Damage(DAMAGED_DATABASE, "", reason, loses=True)
            if not records.unread:
                yield from _orphans(stored, records)

    def mend_home(self, home: str, damage: Damage) -> None:
        """Do nothing: `graphdriver.care.fsck` removes layers of nobody."""


def _orphans(stored: set[str], records: EngineRecords) -> Iterator[Damage]:
    numbers = {id: int(id) for id in stored if id.isdecimal()}
    known = {*records.layers, *records.named}
    last = max((int(id) for id in known if id.isdecimal()), default=0)
    newer = [id for id, number in numbers.items() if number > last + _AT_A_TIME]
    for id in sorted(numbers.keys() - known):
        if newer and numbers[id] > last:
            text = "the database of snapshots is older than it, and knows no snapshot of it"
            yield Damage(OLD_DATABASE, id, text, loses=True)
        elif not known:
            # Perhaps the database is not that of these layers: nothing in it shows that it is.
            text = (
                "the database has no snapshot at all; if it is the right one, containerd removes it"
            )
            yield Damage(ORPHAN, id, text)
        else:
            yield Damage(ORPHAN, id, "it belongs to no snapshot", "remove the layer")


def hit_by(damage: Damage, records: EngineRecords | None) -> tuple[Owner, ...]:
    """Return what cannot work because of a damage, by the engine's records."""
    known = records.layers.get(damage.layer) if records else None
    return known.owners if known else ()


def as_needed(damage: Damage, owners: Collection[Owner]) -> Damage:
    """Return the damage of a layer that the engine still knows: it is not removed, but lost.

    BuildKit records a layer before it is filled, so an incomplete one of its own holds nothing that
    anybody needs.
    """
    is_built = all(one.kind is OwnerKind.BUILD_CACHE for one in owners)
    if damage.code == NO_LAYER or (damage.code == UNFINISHED_LAYER and not is_built):
        return Damage(LOST_LAYER, damage.layer, f"it was lost: {damage.text}", loses=True)
    return damage
