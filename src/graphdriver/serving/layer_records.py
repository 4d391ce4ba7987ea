"""What the framework knows of each layer of a served home: its age, its size, and who got it.

This is for people who look. The driver decides which layers there are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from graphdriver.driver import Usage
from graphdriver.serving.call_log import Caller


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
    """The records of the layers in a home; callers are threads, one at a time for each layer."""

    def __init__(self) -> None:
        self._records: dict[str, LayerRecord] = {}

    def __len__(self) -> int:
        return len(self._records)

    def all(self) -> list[LayerRecord]:
        """Return all records, in no order."""
        return list(self._records.values())

    def created(self, id: str, parent: str) -> None:
        """Record that a layer was created."""
        self._records[id] = LayerRecord(id, parent, time.time())

    def applied(self, id: str, size: int | None = None) -> None:
        """Record that a layer was filled or committed."""
        record = self._of(id)
        record.applied, record.size = time.time(), size

    def counted(self, id: str, usage: Usage) -> None:
        """Record the disk usage of a layer."""
        record = self._of(id)
        record.size, record.inodes = usage.size, usage.inodes

    def removed(self, id: str) -> None:
        """Drop the record of a layer that was removed."""
        self._records.pop(id, None)

    def got(self, id: str, peer: Caller | None = None) -> None:
        """Record that a layer was got, or that its mounts were named."""
        record = self._of(id)
        record.gets += 1
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
