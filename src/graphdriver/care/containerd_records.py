"""The records of a snapshotter's root: our database, which `graphdriver.containerd.metadata` writes.

A running snapshotter keeps its database locked. So the files are copied, and the copy is opened. The
copy is whole if the log (``-wal``) was not begun anew meanwhile: pages that the snapshotter moves from
the log into the database stay in the log until then (https://www.sqlite.org/walformat.html).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from graphdriver.care.owners import EngineRecords, KnownLayer, Owner, OwnerKind, UnreadError
from graphdriver.serving.home_contents import OWN

DATABASE: Final = f"{OWN}/snapshots.db"
VERSION: Final = 1
"""The version of the tables that this module reads."""

_IMAGE: Final = "containerd.io/snapshot/cri.image-ref"
"""The label by which Kubernetes names the image of a snapshot."""
_TRIES: Final = 10
_LOG_HEADER: Final = 32
_VIEW, _ACTIVE, _COMMITTED = 1, 2, 3

_QUERY: Final = """
SELECT s.number, s.key, s.kind, s.parent, s.layer, s.labels, s.size
FROM snapshots s ORDER BY s.number
"""


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot in the database.

    Attributes:
        number: its number.
        key: containerd's name for it.
        kind: view, active or committed, as containerd's numbers.
        parent: the number of its parent, if it has one.
        layer: the driver's ID of its layer; ``""`` for a view of its parent.
        labels: containerd's labels.
        size: the disk usage of its layer in bytes, if it was counted.
    """

    number: int
    key: str
    kind: int
    parent: int | None
    layer: str
    labels: dict[str, str]
    size: int | None


def read_containerd(root: str) -> EngineRecords:
    """Return the layers that a root's database has snapshots of; a snapshotter may serve it meanwhile.

    A layer belongs to its own snapshot, to the views of it, and to the snapshots above it that are
    active or have no children: the containers and the topmost layers of images.

    Args:
        root: the directory of the snapshotter's layers.
    """
    try:
        rows, doomed = read_snapshots(root)
    except UnreadError as error:
        return EngineRecords({}, unread=(str(error),))
    by_number = {row.number: row for row in rows}
    parents = {row.parent for row in rows if row.kind != _VIEW}
    owners: dict[int, list[Owner]] = defaultdict(list)
    for row in rows:
        owner = Owner(OwnerKind.SNAPSHOT, row.key, _name(row))
        is_top = row.kind != _COMMITTED or row.number not in parents
        for number in _chain(by_number, row.number) if is_top else (row.number,):
            owners[number].append(owner)
    layers = {}
    for row in rows:
        if row.layer:
            below = by_number.get(row.parent) if row.parent is not None else None
            layers[row.layer] = KnownLayer(
                row.layer, below.layer if below else "", tuple(owners[row.number]), size=row.size
            )
    return EngineRecords(layers, frozenset(doomed))


def _chain(rows: dict[int, SnapshotRow], number: int) -> Iterator[int]:
    """Yield a snapshot and all below it; after damage the parents may lead in a circle."""
    seen: set[int] = set()
    at: int | None = number
    while at in rows and at not in seen:
        seen.add(at)
        yield at
        at = rows[at].parent


def _name(row: SnapshotRow) -> str:
    """Return a snapshot's name for people: containerd's own key is ``NAMESPACE/NUMBER/KEY``."""
    image = row.labels.get(_IMAGE)
    namespace, _, rest = row.key.partition("/")
    number, _, key = rest.partition("/")
    plain = f"{namespace}/{key}" if number.isdecimal() and key else row.key
    return f"{plain} ({image})" if image else plain


# --- the database ---------------------------------------------------------------------------------


def read_snapshots(root: str) -> tuple[list[SnapshotRow], list[str]]:
    """Return the snapshots in a root's database, and the layers that are being removed.

    Raises:
        UnreadError: the database cannot be read, is damaged, or is of another version.
    """
    path = os.path.join(root, DATABASE)
    try:
        return _read(path)
    except (OSError, sqlite3.Error, ValueError, RecursionError) as error:
        raise UnreadError(f"{path} cannot be read: {_in_one_line(error)}") from error


def _read(path: str) -> tuple[list[SnapshotRow], list[str]]:
    with tempfile.TemporaryDirectory(prefix="graphdriver-") as directory:
        copy = os.path.join(directory, "snapshots.db")
        _copy(path, copy)
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                raise ValueError(f"it has version {version}, and this graphdriver reads {VERSION}")
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise ValueError(f"it is damaged: {verdict}")
            rows = [_row(*row) for row in connection.execute(_QUERY)]
            doomed = [str(layer) for (layer,) in connection.execute("SELECT layer FROM doomed")]
    return rows, doomed


def _copy(path: str, to: str) -> None:
    """Copy a database and its log, as they were at one time.

    Raises:
        OSError: they cannot be read, or change too often.
    """
    for _ in range(_TRIES):
        before = _state(path)
        shutil.copyfile(path, to)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(f"{path}-wal", f"{to}-wal")
        if _state(path) == before:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{to}-wal")
    raise OSError("it changes while it is read")


def _state(path: str) -> tuple[bytes, int, int]:
    """Return what changes when the log is begun anew; without a log, when the database changes."""
    header = b""
    with contextlib.suppress(FileNotFoundError), open(f"{path}-wal", "rb") as log:
        header = log.read(_LOG_HEADER)
    if header:
        return header, 0, 0
    status = os.stat(path)
    return b"", status.st_mtime_ns, status.st_size


def _row(
    number: object,
    key: object,
    kind: object,
    parent: object,
    layer: object,
    labels: object,
    size: object,
) -> SnapshotRow:
    if not isinstance(number, int) or not isinstance(key, str):
        raise ValueError(f"the snapshot {key!r} is damaged")  # noqa: TRY004 - as other damage
    found = json.loads(str(labels))
    if not isinstance(found, dict) or kind not in {_VIEW, _ACTIVE, _COMMITTED}:
        raise ValueError(f"the snapshot {key!r} is damaged")
    return SnapshotRow(
        number,
        key,
        int(str(kind)),
        parent if isinstance(parent, int) else None,
        str(layer or ""),
        {str(name): str(value) for name, value in found.items()},
        size if isinstance(size, int) else None,
    )


def _in_one_line(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
