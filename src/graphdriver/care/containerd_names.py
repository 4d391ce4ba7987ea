"""The names of snapshots in containerd's own database, ``io.containerd.metadata.v1.bolt/meta.db``.

A snapshot is ``v1/NAMESPACE/snapshots/SNAPSHOTTER/KEY``; its ``name`` is the key that the snapshotter
got (containerd's ``core/metadata/buckets.go``). The names of all snapshotters are returned: only
containerd's configuration tells under which name it knows a root of ours.
"""

from __future__ import annotations

import re
from typing import Final

from graphdriver.care.bolt import BoltError, Tree, read_bolt
from graphdriver.care.owners import UnreadError

_SCHEMA: Final = re.compile(rb"v[0-9]+")
_KNOWN_SCHEMA: Final = b"v1"
_KNOWN_VERSIONS: Final = range(1, 5)
"""containerd 1.0 to 2.x; each adds to the one before."""


def read_names(path: str) -> set[str]:
    """Return the keys of all snapshots that containerd knows, as the snapshotters got them.

    Raises:
        UnreadError: the database cannot be read, or is of an unknown version.
    """
    try:
        tree = read_bolt(path)
        return _names(tree)
    except BoltError as error:
        raise UnreadError(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise UnreadError(f"{path} cannot be read: {error.strerror}") from error


def _names(tree: Tree) -> set[str]:
    schemas = sorted(key for key in tree if _SCHEMA.fullmatch(key))
    if schemas != [_KNOWN_SCHEMA]:
        raise BoltError(f"it has the schemas {schemas!a}, and only {_KNOWN_SCHEMA!a} is known")
    spaces = dict(_bucket(tree, _KNOWN_SCHEMA))
    if (version := _varint(spaces.pop(b"version", b""))) not in _KNOWN_VERSIONS:
        raise BoltError(f"it has the unknown version {version}")
    found = set()
    for space in spaces:
        snapshotters = _bucket(_bucket(spaces, space), b"snapshots")
        for snapshotter in snapshotters:
            snapshots = _bucket(snapshotters, snapshotter)
            for key in snapshots:
                name = _bucket(snapshots, key).get(b"name")
                if not isinstance(name, bytes) or not name:
                    raise BoltError(f"the snapshot {key!a} has no name")
                found.add(name.decode(errors="surrogateescape"))
    return found


def _bucket(tree: Tree, name: bytes) -> Tree:
    """Return an inner bucket, empty if it does not exist."""
    found = tree.get(name, {})
    if not isinstance(found, dict):
        raise BoltError(f"{name!a} is a value, not a bucket")
    return found


def _varint(data: bytes | Tree) -> int:
    """Return a number as Go's ``binary.Varint`` reads it; -1 if it is none."""
    if not isinstance(data, bytes) or not 0 < len(data) <= 10:
        return -1
    number = sum((byte & 0x7F) << (7 * at) for at, byte in enumerate(data))
    return -1 if data[-1] & 0x80 or number & 1 else number >> 1
