"""What the framework knows of each layer of a served home: its age, its size, and who got it.

This is for people who look. The driver decides which layers there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from graphdriver.abilities import Usage
from graphdriver.homes import StoredLayer
from graphdriver.serving.call_log import Caller
from graphdriver.serving.layer_journal import Entry, LayerJournal

PATIENCE: Final = 1.0
"""How long a driver is asked at a start which of the recorded layers exist, in seconds."""

_MOST: Final = 200_000
"""The most layers that are taken from a journal, which may be damaged."""


@dataclass(slots=True)
class LayerRecord:
    """What is known of a layer; None: it is unknown.

    Attributes:
        id: the layer.
        parent: its parent; ``""``: it has none.
        created: when it was created, in seconds since 1970.
        applied: when it was filled or committed, likewise.
        size: bytes of its files, as they were counted when it was filled or committed.
        inodes: the number of its inodes, likewise.
        gets: how often it was got since this process started.
        references: how many gets or snapshots use it.
        last_get: when it was last got, in seconds since 1970.
        got_by: the process that got it last.
    """

    id: str
    parent: str | None = None
    created: float | None = None
    applied: float | None = None
    size: int | None = None
    inodes: int | None = None
    gets: int = 0
    references: int = 0
    last_get: float | None = None
    got_by: Caller | None = None


class LayerRecords:
    """The records of the layers in a home; callers are threads, one at a time for each layer.

    Args:
        home: a home that this process has locked; its journal keeps the records over a restart.
            None: there are none.
    """

    def __init__(self, home: str | None = None) -> None:
        self._records: dict[str, LayerRecord] = {}
        self._home = home
        self._journal = LayerJournal(home, self._entries) if home else None

    def __len__(self) -> int:
        return len(self._records)

    def all(self) -> list[LayerRecord]:
        """Return all records, in no order."""
        return list(self._records.values())

    def open(
        self,
        before: LayerRecords,
        exists: Callable[[str], bool],
        stored: Callable[[], Iterable[StoredLayer]],
    ) -> None:
        """Read the journal, and write it anew without layers that do not exist; raise nothing.

        Args:
            before: the records that this process had until now, with what no journal keeps.
            exists: asks the driver whether a layer exists.
            stored: reads the driver's layers, for a home that has no journal.
        """
        if self._journal is None:
            return
        entries = self._journal.read()
        if entries is None:
            self._take_stored(stored)
        else:
            self._records = read_records(entries)
        if before._home == self._home:
            for id, old in before._records.items():
                record = self._records.setdefault(id, old)
                record.gets, record.last_get, record.got_by = old.gets, old.last_get, old.got_by
                record.references = 0
        self._drop_all_but(exists)
        self._journal.rewrite()

    def _drop_all_but(self, exists: Callable[[str], bool]) -> None:
        """Drop the layers that were removed without a line: by a kill, or while no plugin ran."""
        deadline = time.monotonic() + PATIENCE
        try:
            for id in list(self._records):
                if not exists(id):
                    del self._records[id]
                if time.monotonic() > deadline:
                    return
        except (Exception, SystemExit):  # a driver may raise anything
            return

    def _take_stored(self, stored: Callable[[], Iterable[StoredLayer]]) -> None:
        """Record the layers that were made before there was a journal."""
        deadline = time.monotonic() + PATIENCE
        try:
            for layer in stored():
                record = self._records[layer.id] = LayerRecord(layer.id, layer.parent)
                if layer.usage:
                    record.size, record.inodes = layer.usage.size, layer.usage.inodes
                if time.monotonic() > deadline:
                    return
        except (Exception, SystemExit):
            return

    # --- what happens to layers -------------------------------------------------------------------

    def created(self, id: str, parent: str) -> None:
        """Record that a layer was created."""
        now = time.time()
        self._records[id] = LayerRecord(id, parent, now)
        self._add(Entry(id, parent, now))

    def applied(self, id: str, size: int | None = None) -> None:
        """Record that a layer was filled or committed."""
        record = self._of(id)
        record.applied, record.size = time.time(), size
        self._add(Entry(id, applied=record.applied, size=size))

    def took_parent(self, id: str, parent: str) -> None:
        """Record that a layer without a parent got one."""
        self._of(id).parent = parent
        self._add(Entry(id, parent))

    def counted(self, id: str, usage: Usage) -> None:
        """Record the disk usage of a layer."""
        record = self._of(id)
        record.size, record.inodes = usage.size, usage.inodes
        self._add(Entry(id, size=usage.size, inodes=usage.inodes))

    def removed(self, id: str) -> None:
        """Drop the record of a layer that was removed."""
        if self._records.pop(id, None):
            self._add(Entry(id, removed=True))

    def got(self, id: str, peer: Caller | None = None, *, references: int = 1) -> None:
        """Record that a layer was got, or that its mounts were named.

        Args:
            id: the layer.
            peer: the process that got it, if it is known.
            references: how many references begin with it.
        """
        record = self._records.get(id) or self._of(id)
        record.gets += 1
        record.references += references
        record.last_get = time.time()
        record.got_by = peer

    def held(self, id: str) -> None:
        """Record a reference to a layer, until `put`."""
        self._of(id).references += 1

    def put(self, id: str) -> None:
        """Record that a reference ended."""
        record = self._records.get(id)
        if record and record.references:  # the Get may be of the time before a restart
            record.references -= 1

    def _of(self, id: str) -> LayerRecord:
        record = self._records.get(id)
        if record is None:  # a layer from before the records, or one whose record was lost
            record = self._records[id] = LayerRecord(id)
        return record

    def _add(self, entry: Entry) -> None:
        if self._journal:
            self._journal.add(entry)

    def _entries(self) -> Iterator[Entry]:
        for one in self.all():
            yield Entry(one.id, one.parent, one.created, one.applied, one.size, one.inodes)


def read_records(entries: Iterable[Entry]) -> dict[str, LayerRecord]:
    """Make the records of the layers of a journal, by their IDs."""
    found: dict[str, LayerRecord] = {}
    for entry in entries:
        if entry.removed:
            found.pop(entry.layer, None)
            continue
        record = found.get(entry.layer)
        if record is None:
            if len(found) >= _MOST:
                continue
            record = found[entry.layer] = LayerRecord(entry.layer)
        for name in ("parent", "created", "applied", "size", "inodes"):
            value = getattr(entry, name)
            if value is not None:
                setattr(record, name, value)
    return found
