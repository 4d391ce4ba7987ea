"""What snapshots there are, in SQLite: nothing about them is kept in memory.

The rules:

- One transaction a call, which is on disk when the call answers (WAL, ``synchronous=FULL``).
- A layer is made before the row that owns it, and goes after it. So that a crash between the two
  leaves nothing behind unseen, numbers are reserved a hundred at a time, and what nobody owns of the
  last hundred is an orphan; and a layer whose row is gone stays in ``doomed`` until the driver has
  removed it.
- A snapshot's parent is a number, so committing one under another name touches its own row alone.
"""

from __future__ import annotations

import contextlib
import enum
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from graphdriver.driver import Usage
from graphdriver.errors import InUseError, LayerExistsError, LayerNotFoundError, UnsupportedError

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


class SnapshotKind(enum.IntEnum):
    """What may be done with a snapshot; the numbers are containerd's."""

    VIEW = 1
    ACTIVE = 2
    COMMITTED = 3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot.

    Attributes:
        number: its own, for ever.
        key: what containerd calls it; of a committed one, its name.
        kind: what may be done with it.
        parent: the key of the one that it stands on, or ``""``.
        parent_layer: that one's layer, or ``""``.
        layer: the driver's layer that is its own; ``""`` for a view, which has none.
        labels: what containerd has attached to it.
        created: when it was made or committed, in nanoseconds since 1970.
        updated: when its labels were last changed, likewise.
        usage: what it takes by itself; None until that has been counted.
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


class Metadata:
    """The snapshots of a root.

    Args:
        path: the database; it is made if it is not there.

    Raises:
        UnsupportedError: it was made by another version.
    """

    def __init__(self, path: str) -> None:
        self._guard = threading.RLock()
        self._gone: set[str] = set()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            with self._transaction() as run:
                for statement in _SCHEMA.split(";\n"):
                    run(statement)
                run(f"PRAGMA user_version={_VERSION}")
        elif version != _VERSION:
            raise UnsupportedError(
                f"{path} is of version {version}, and this knows version {_VERSION}",
                hint="use the graphdriver that made it, or another root",
            )
        (reserved,) = self._connection.execute("SELECT until FROM reserved").fetchone()
        self._reserved = int(reserved)
        self._next = self._reserved

    def close(self) -> None:
        """Close the database."""
        with self._guard:
            self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[_Run]:
        with self._guard:
            run = self._connection.execute
            run("BEGIN IMMEDIATE")
            try:
                yield run
                gone = set(self._gone)
                for layer in gone:
                    run("DELETE FROM doomed WHERE layer = ?", (layer,))
                run("COMMIT")
            except BaseException:
                run("ROLLBACK")
                raise
            self._gone -= gone

    # --- reading ----------------------------------------------------------------------------------

    def stat(self, key: str) -> Snapshot:
        """Return a snapshot.

        Raises:
            LayerNotFoundError: there is none of that key.
        """
        with self._guard:
            row = self._connection.execute(f"{_SELECT} WHERE s.key = ?", (key,)).fetchone()
        if row is None:
            raise LayerNotFoundError(f"the snapshot {key!r} does not exist")
        return _snapshot(row)

    def exists(self, key: str) -> bool:
        """Tell whether there is a snapshot of that key."""
        with self._guard:
            found = self._connection.execute("SELECT 1 FROM snapshots WHERE key = ?", (key,))
            return found.fetchone() is not None

    def all(self) -> list[Snapshot]:
        """Return all snapshots, parents before their children."""
        with self._guard:
            rows = self._connection.execute(f"{_SELECT} ORDER BY s.number").fetchall()
        return [_snapshot(row) for row in rows]

    def orphans(self) -> list[str]:
        """Return the layers that may be there and that no snapshot owns."""
        with self._guard:
            doomed = [one for (one,) in self._connection.execute("SELECT layer FROM doomed")]
            last = range(max(1, self._reserved - AT_A_TIME + 1), self._reserved + 1)
            owned = self._connection.execute(
                "SELECT number FROM snapshots WHERE number >= ?", (last.start,)
            )
            unowned = {*last} - {number for (number,) in owned}
        return [one for one in doomed if one not in self._gone] + [str(n) for n in sorted(unowned)]

    def uncounted(self) -> list[Snapshot]:
        """Return the committed snapshots whose usage is not known."""
        return [
            one for one in self.all() if one.kind is SnapshotKind.COMMITTED and one.usage is None
        ]

    # --- writing ----------------------------------------------------------------------------------

    def next_number(self) -> int:
        """Return a number that no snapshot has had."""
        with self._guard:
            if self._next == self._reserved:
                with self._transaction() as run:
                    run("UPDATE reserved SET until = ?", (self._reserved + AT_A_TIME,))
                self._reserved += AT_A_TIME
            self._next += 1
            return self._next

    def add(
        self,
        number: int,
        key: str,
        kind: SnapshotKind,
        parent: Snapshot | None,
        layer: str,
        labels: Mapping[str, str],
    ) -> None:
        """Note a snapshot.

        Raises:
            LayerExistsError: there is one of that key.
            LayerNotFoundError: the parent is gone.
        """
        now = time.time_ns()
        with self._transaction() as run:
            if (
                parent
                and run("SELECT 1 FROM snapshots WHERE number = ?", (parent.number,)).fetchone()
                is None
            ):
                raise LayerNotFoundError(f"the parent {parent.key!r} does not exist")
            try:
                run(
                    "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
                    (
                        number,
                        key,
                        int(kind),
                        parent.number if parent else None,
                        layer or None,
                        json.dumps(dict(labels)),
                        now,
                        now,
                    ),
                )
            except sqlite3.IntegrityError as error:
                raise _taken(key) from error

    def commit(self, one: Snapshot, name: str, labels: Mapping[str, str]) -> None:
        """Make an active snapshot a committed one.

        Raises:
            LayerExistsError: there is a snapshot of that name.
        """
        now = time.time_ns()
        with self._transaction() as run:
            try:
                run(
                    "UPDATE snapshots SET key = ?, kind = ?, labels = ?, created = ?, updated = ?"
                    " WHERE number = ?",
                    (
                        name,
                        int(SnapshotKind.COMMITTED),
                        json.dumps(dict(labels)),
                        now,
                        now,
                        one.number,
                    ),
                )
            except sqlite3.IntegrityError as error:
                raise _taken(name) from error

    def label(self, one: Snapshot, labels: Mapping[str, str]) -> Snapshot:
        """Replace a snapshot's labels."""
        with self._transaction() as run:
            run(
                "UPDATE snapshots SET labels = ?, updated = ? WHERE number = ?",
                (json.dumps(dict(labels)), time.time_ns(), one.number),
            )
        return self.stat(one.key)

    def count(self, one: Snapshot, usage: Usage) -> None:
        """Note what a snapshot takes."""
        with self._transaction() as run:
            run(
                "UPDATE snapshots SET size = ?, inodes = ? WHERE number = ?",
                (usage.size, usage.inodes, one.number),
            )

    def remove(self, one: Snapshot) -> None:
        """Forget a snapshot; its layer is doomed from then on.

        Raises:
            InUseError: others stand on it.
        """
        with self._transaction() as run:
            child = run(
                "SELECT key FROM snapshots WHERE parent = ? LIMIT 1", (one.number,)
            ).fetchone()
            if child:
                raise InUseError(
                    f"the snapshot {child[0]!r} stands on {one.key!r}", hint="remove that one first"
                )
            run("DELETE FROM snapshots WHERE number = ?", (one.number,))
            if one.layer:
                run("INSERT OR IGNORE INTO doomed VALUES (?)", (one.layer,))

    def forget(self, layer: str) -> None:
        """Note that a doomed layer is gone; the next transaction takes that along."""
        with self._guard:
            self._gone.add(layer)


class _Run(Protocol):
    """What `sqlite3.Connection.execute` is."""

    def __call__(self, sql: str, values: tuple[object, ...] = (), /) -> sqlite3.Cursor: ...


def _taken(key: str) -> LayerExistsError:
    return LayerExistsError(f"there is a snapshot {key!r} already")


def _snapshot(row: tuple[object, ...]) -> Snapshot:
    number, key, kind, parent, parent_layer, layer, labels, created, updated, size, inodes = row
    assert isinstance(number, int)
    assert isinstance(labels, str)
    assert isinstance(created, int)
    assert isinstance(updated, int)
    usage = Usage(size, inodes) if isinstance(size, int) and isinstance(inodes, int) else None
    return Snapshot(
        number,
        str(key),
        SnapshotKind(int(str(kind))),
        str(parent or ""),
        str(parent_layer or ""),
        str(layer or ""),
        json.loads(labels),
        created,
        updated,
        usage,
    )
