"""The records of snapshots, in SQLite; nothing is kept only in memory that cannot be found again.

- Each call is one transaction, which is on disk when the call is answered
  (`graphdriver.containerd.database`). What is done behind a call, such as counting its disk usage, is
  written with the next one: after a kill it is done again.
- A layer is created before its snapshot's row, and removed after it. A crash between the two leaves a
  layer without a row. To find such layers, numbers are reserved a hundred at a time: those of the last
  hundred without a row are orphans. And when a row is deleted, its layer stays in the table ``doomed``
  until the driver has removed it.
- A snapshot's parent is recorded by number: a commit, which changes the key, changes one row.
"""

from __future__ import annotations

import contextlib
import enum
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from graphdriver.abilities import Usage
from graphdriver.containerd.database import Database, Layout, Run
from graphdriver.errors import GraphDriverError, InUseError, LayerExistsError, LayerNotFoundError

AT_A_TIME: Final = 100
"""How many numbers are reserved at a time."""

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE snapshots(
  number INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  kind INTEGER NOT NULL,
  parent INTEGER REFERENCES snapshots(number),
  layer TEXT UNIQUE,
  labels TEXT NOT NULL,
  created INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  size INTEGER,
  inodes INTEGER
) STRICT;
CREATE INDEX children ON snapshots(parent);
CREATE TABLE doomed(layer TEXT PRIMARY KEY) STRICT;
CREATE TABLE reserved(until INTEGER NOT NULL) STRICT;
INSERT INTO reserved VALUES (0);
"""
_SELECT: Final = """
SELECT s.number, s.key, s.kind, p.key, p.layer, s.layer, s.labels, s.created, s.updated, s.size,
  s.inodes
FROM snapshots s LEFT JOIN snapshots p ON p.number = s.parent
"""

_RESERVED: Final = "SELECT until FROM reserved"

T = TypeVar("T")


class SnapshotKind(enum.IntEnum):
    """The kind of a snapshot; the numbers are containerd's."""

    VIEW = 1
    ACTIVE = 2
    COMMITTED = 3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot.

    Attributes:
        number: identifies it in the database; never used again.
        key: containerd's name for it; of a committed snapshot, the name of the commit.
        kind: view, active or committed.
        parent: the parent's key, or ``""``.
        parent_layer: the parent's layer, or ``""``.
        layer: its own layer; ``""`` for a view, which shows its parent's.
        labels: containerd's labels.
        created: when it was created or committed, in nanoseconds since 1970.
        updated: when its labels were last changed, likewise.
        usage: its disk usage, without its parents; None until that has been counted.
    """

    number: int
    key: str
    kind: SnapshotKind
    parent: str
    parent_layer: str
    layer: str
    labels: Mapping[str, str]
    created: int
    updated: int
    usage: Usage | None

    @property
    def shown_layer(self) -> str:
        """The layer that its mounts show."""
        return self.layer or self.parent_layer


class Metadata:
    """The records of the snapshots of a root.

    Args:
        path: the database file; it is made if it does not exist.
        layers: the layers in the root; if there are any, no new database is made.

    Raises:
        GraphDriverError: the database is damaged, or is missing though layers exist.
        InUseError: another process has locked it; the text names that process.
        UnsupportedError: it was made by another version.
    """

    def __init__(self, path: str, layers: Sequence[str] = ()) -> None:
        self._guard = threading.Lock()
        self._gone: set[str] = set()
        self._counted: dict[int, Usage] = {}
        self._database = Database(path, _LAYOUT, layers)
        self._reserved = self._next = _reserved(self._database.read(_RESERVED))

    def close(self) -> None:
        """Close the database, and write first what was counted: the next start would count it again."""
        with contextlib.closing(self._database), contextlib.suppress(GraphDriverError):
            if self._counted:
                self._write(lambda _run: None)

    def keep_reserve(self) -> None:
        """Reserve room for removals again, if it was used and there is room now."""
        self._database.keep_reserve()

    def _write(self, work: Callable[[Run], T], *, frees: bool = False) -> T:
        """Do some work in a transaction; see `Database.write`.

        The transaction also deletes from ``doomed`` the layers that the driver has removed, and records
        the usage that was counted. They need no transaction of their own: it does no harm to remove a
        removed layer again, or to count a snapshot again.
        """

        def all_of_it(run: Run) -> tuple[T, set[str], set[int]]:
            done = work(run)
            with self._guard:
                gone, counted = set(self._gone), dict(self._counted)
            for layer in gone:
                run("DELETE FROM doomed WHERE layer = ?", (layer,))
            for number, usage in counted.items():
                run(
                    "UPDATE snapshots SET size = ?, inodes = ? WHERE number = ?",
                    (usage.size, usage.inodes, number),
                )
            return done, gone, {*counted}

        done, gone, counted = self._database.write(all_of_it, frees=frees)
        with self._guard:
            self._gone -= gone
            for number in counted:
                self._counted.pop(number, None)
        return done

    # --- reading ----------------------------------------------------------------------------------

    def stat(self, key: str) -> Snapshot:
        """Return a snapshot, given its key.

        Raises:
            LayerNotFoundError: the snapshot does not exist.
        """
        found = self._find("WHERE s.key = ?", key)
        if not found:
            raise LayerNotFoundError(f"the snapshot {key!r} does not exist")
        return found[0]

    def numbered(self, number: int) -> Snapshot | None:
        """Return the snapshot of a number, if there is one."""
        found = self._find("WHERE s.number = ?", number)
        return found[0] if found else None

    def _find(self, which: str, *values: object) -> list[Snapshot]:
        with self._guard:  # before the rows: what is written meanwhile is in them
            counted = dict(self._counted)
        rows = self._database.read(f"{_SELECT} {which}", values)
        try:
            found = [_snapshot(row) for row in rows]
        except ValueError as error:
            raise self._database.damaged(str(error)) from error
        if not counted:
            return found
        return [replace(one, usage=counted.get(one.number, one.usage)) for one in found]

    def exists(self, key: str) -> bool:
        """Tell whether a snapshot has this key."""
        return bool(self._database.read("SELECT 1 FROM snapshots WHERE key = ?", (key,)))

    def all(self) -> list[Snapshot]:
        """Return all snapshots, by number: a parent that came with the commit may follow its child."""
        return self._find("ORDER BY s.number")

    def uncommitted(self) -> list[Snapshot]:
        """Return the active snapshots and the views: those that have mounts."""
        return self._find("WHERE s.kind != ? ORDER BY s.number", int(SnapshotKind.COMMITTED))

    def labelled(self, name: str, value: str) -> list[Snapshot]:
        """Return the snapshots that have this label."""
        found = self._find("WHERE instr(s.labels, ?) ORDER BY s.number", json.dumps(value))
        return [one for one in found if one.labels.get(name) == value]

    def orphans(self) -> list[str]:
        """Return the layers that may exist and belong to no snapshot."""
        with self._guard:
            last = range(max(1, self._reserved - AT_A_TIME + 1), self._reserved + 1)
        rows = self._database.read(
            "SELECT layer, NULL FROM doomed"
            " UNION ALL SELECT NULL, number FROM snapshots WHERE number >= ?",
            (last.start,),
        )
        unowned = {*last} - {number for _, number in rows}
        with self._guard:
            doomed = [str(layer) for layer, _ in rows if layer and layer not in self._gone]
        return doomed + [str(number) for number in sorted(unowned)]

    def uncounted(self) -> list[Snapshot]:
        """Return the committed snapshots whose usage is not counted yet."""
        return [
            one for one in self.all() if one.kind is SnapshotKind.COMMITTED and one.usage is None
        ]

    # --- writing ----------------------------------------------------------------------------------

    def next_number(self) -> int:
        """Return a number that no snapshot ever had."""
        while True:
            with self._guard:
                if self._next < self._reserved:
                    self._next += 1
                    return self._next
                until = self._reserved + AT_A_TIME
            self._reserve_numbers(until)

    def _reserve_numbers(self, until: int) -> None:
        # Several callers may do this at once, and not in order.
        self._write(lambda run: run("UPDATE reserved SET until = max(until, ?)", (until,)))
        with self._guard:
            self._reserved = max(self._reserved, until)

    def add(
        self,
        number: int,
        key: str,
        kind: SnapshotKind,
        parent: Snapshot | None,
        layer: str,
        labels: Mapping[str, str],
    ) -> None:
        """Record a snapshot.

        Raises:
            LayerExistsError: a snapshot has this key.
            LayerNotFoundError: the parent does not exist any more.
        """
        now = time.time_ns()
        below = parent.number if parent else None
        text = json.dumps(dict(labels))

        def insert(run: Run) -> None:
            _expect_there(run, parent)
            try:
                run(
                    "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
                    (number, key, int(kind), below, layer or None, text, now, now),
                )
            except sqlite3.IntegrityError as error:
                raise _taken(key) from error

        self._write(insert)

    def commit(
        self, one: Snapshot, name: str, labels: Mapping[str, str], parent: Snapshot | None = None
    ) -> None:
        """Record that an active snapshot is committed.

        Args:
            one: the snapshot.
            name: its new key.
            labels: its new labels.
            parent: its parent from now on; None: as before.

        Raises:
            LayerExistsError: another snapshot has this name.
            LayerNotFoundError: the parent does not exist any more.
        """
        now = time.time_ns()
        text = json.dumps(dict(labels))

        def update(run: Run) -> None:
            _expect_there(run, parent)
            try:
                run(
                    "UPDATE snapshots SET key = ?, kind = ?, labels = ?, created = ?, updated = ?,"
                    " parent = coalesce(?, parent) WHERE number = ?",
                    (
                        *(name, int(SnapshotKind.COMMITTED), text, now, now),
                        *(parent.number if parent else None, one.number),
                    ),
                )
            except sqlite3.IntegrityError as error:
                raise _taken(name) from error

        self._write(update)

    def label(self, one: Snapshot, labels: Mapping[str, str]) -> Snapshot:
        """Replace a snapshot's labels."""
        values = (json.dumps(dict(labels)), time.time_ns(), one.number)
        self._write(
            lambda run: run("UPDATE snapshots SET labels = ?, updated = ? WHERE number = ?", values)
        )
        return self.stat(one.key)

    def count(self, one: Snapshot, usage: Usage) -> None:
        """Keep in mind the disk usage of a committed snapshot; the next transaction records it."""
        with self._guard:
            self._counted[one.number] = usage

    def remove(self, one: Snapshot) -> None:
        """Delete a snapshot's record, and note its layer as doomed; needs no room on disk.

        Raises:
            InUseError: it is the parent of another snapshot.
        """

        def delete(run: Run) -> None:
            child = run(
                "SELECT key FROM snapshots WHERE parent = ? LIMIT 1", (one.number,)
            ).fetchone()
            if child:
                raise InUseError(
                    f"the snapshot {child[0]!r} is a child of {one.key!r}",
                    hint="remove that one first",
                )
            run("DELETE FROM snapshots WHERE number = ?", (one.number,))
            # In the same transaction: after a crash the layer has a row here or there.
            if one.layer:
                run("INSERT OR IGNORE INTO doomed VALUES (?)", (one.layer,))

        self._write(delete, frees=True)

    def forget(self, layer: str) -> None:
        """Keep in mind that a doomed layer was removed; the next transaction records it."""
        with self._guard:
            self._gone.add(layer)


def _expect_there(run: Run, parent: Snapshot | None) -> None:
    if parent is None:
        return
    rows = run("SELECT 1 FROM snapshots WHERE number = ?", (parent.number,))
    if rows.fetchone() is None:
        raise LayerNotFoundError(f"the parent {parent.key!r} does not exist")


def _taken(key: str) -> LayerExistsError:
    return LayerExistsError(f"the snapshot {key!r} exists already")


def _snapshot(row: tuple[object, ...]) -> Snapshot:
    """Make a snapshot of a row.

    Raises:
        ValueError: the row is damaged.
    """
    number, key, kind, parent, parent_layer, layer, labels, created, updated, size, inodes = row
    if not (isinstance(number, int) and isinstance(created, int) and isinstance(updated, int)):
        raise ValueError(f"the snapshot {key!r} has no number, or no times")  # noqa: TRY004
    usage = Usage(size, inodes) if isinstance(size, int) and isinstance(inodes, int) else None
    return Snapshot(
        number,
        str(key),
        SnapshotKind(int(str(kind))),
        str(parent or ""),
        str(parent_layer or ""),
        str(layer or ""),
        _labels(key, labels),
        created,
        updated,
        usage,
    )


def _labels(key: object, text: object) -> dict[str, str]:
    try:
        found = json.loads(str(text))
    except RecursionError as error:
        raise ValueError(f"the labels of the snapshot {key!r} are damaged") from error
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise ValueError(f"the labels of the snapshot {key!r} are damaged")
    return found


def _reserved(rows: Sequence[tuple[object, ...]]) -> int:
    """Return the highest reserved number.

    Raises:
        ValueError: the rows of the table are damaged.
    """
    (one,) = rows
    (until,) = one
    if not isinstance(until, int):
        raise ValueError("the reserved number is damaged")  # noqa: TRY004 - as other damage
    return until


def _check(run: Run) -> None:
    """Read all rows; see `Layout`.

    Raises:
        ValueError: one is damaged.
    """
    until = _reserved(run(_RESERVED).fetchall())
    for one in map(_snapshot, run(_SELECT).fetchall()):
        if not 0 < one.number <= until:
            raise ValueError(f"the snapshot {one.key!r} has a number that was never reserved")
        own = one.kind is not SnapshotKind.VIEW or not one.parent
        if one.layer != (str(one.number) if own else ""):
            raise ValueError(f"the snapshot {one.key!r} has another layer than its own")
    for (layer,) in run("SELECT layer FROM doomed").fetchall():
        if not str(layer).isdecimal() or int(layer) > until:
            raise ValueError(f"the layer {layer!r} was never reserved")


_LAYOUT: Final = Layout(_VERSION, _SCHEMA.split(";\n"), _check)
