"""BuildKit's records of layers in a Docker daemon: ``buildkit/`` in a data root.

- ``snapshots.db`` names the layers. A bucket is a snapshot:

  | members | the snapshot |
  | --- | --- |
  | ``parent`` | a step that is worked on, or a local source; its key is the driver's ID of its layer |
  | ``committed`` | the result of a step; the value is the driver's ID of its layer |
  | ``iscommitted``, ``parent`` | the layer of such a result; its key is the driver's ID |
  | ``chainid`` | also, or only, a layer of images (`graphdriver.care.layer_database`) |
  | ``size`` | as the driver counted it |

  A parent is the key of a snapshot, or the chain ID of a layer of images.
- ``metadata_v2.db`` describes what is cached: ``_main/KEY``, each value JSON.
- ``containerdmeta.db`` has the leases, which name the snapshots that are in use. For a key that
  ``snapshots.db`` does not know, the daemon asks the driver for a layer of that ID.
- ``cache.db`` and ``history.db`` name no snapshots, only what is described in ``metadata_v2.db``.

The source of these rules is moby's ``builder/builder-next/adapters/snapshot`` and BuildKit's ``cache``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from graphdriver.care.bolt import BoltError, Tree, read_bolt
from graphdriver.care.layer_database import LAYER
from graphdriver.care.owners import UnreadError

_MEMBERS: Final = {b"parent", b"committed", b"iscommitted", b"chainid", b"size"}
_OTHER_KEYS: Final = (b"cache.snapshot", b"cache.equalMutable")
_READ: Final = ("snapshots.db", "metadata_v2.db", "containerdmeta.db")
_NAME_NO_LAYER: Final = {"cache.db", "history.db", "history_c8d.db"}
_BEFORE_V2: Final = "metadata.db"
_CHAIN: Final = "sha256:"


@dataclass(frozen=True, slots=True)
class CachedStep:
    """A snapshot: what BuildKit keeps of a step of a build, or of a source.

    Attributes:
        key: BuildKit's ID of it, as ``docker system df -v`` shows it.
        layer: the driver's ID of its layer; ``""`` if only the chain ID is recorded.
        chain_id: the chain ID of its layer; ``""`` if it is no layer of images.
        parent: the key of the snapshot below it, or a chain ID; ``""``: no snapshot is below it.
        description: what it is, for people; None if the build cache does not have it any more.
    """

    key: str
    layer: str
    chain_id: str
    parent: str
    description: str | None = None


@dataclass(slots=True)
class BuildRecords:
    """All records of a ``buildkit`` directory.

    Attributes:
        steps: what is cached, by its key.
        named: all keys in all records: each may be the driver's ID of a layer.
        unread: why a record could not be read, one sentence each.
    """

    steps: dict[str, CachedStep] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)


def read_build_records(path: str) -> BuildRecords:
    """Return all records of a ``buildkit`` directory; a daemon may write to it meanwhile."""
    found = BuildRecords()
    try:
        files = set(os.listdir(path))
    except FileNotFoundError:
        return found  # no daemon that has BuildKit was ever started here
    except OSError as error:
        found.unread.append(f"{path} cannot be read: {error.strerror}")
        return found
    databases = {name for name in files if name.endswith(".db")}
    unknown = databases - {*_READ, *_NAME_NO_LAYER}
    if _READ[1] in databases:
        unknown.discard(_BEFORE_V2)  # a newer daemon has taken it over, and does not read it again
    found.unread += [f"{os.path.join(path, name)} is unknown" for name in sorted(unknown)]
    trees = {name: _database(os.path.join(path, name), found.unread) for name in _READ}
    try:
        descriptions = _described(trees["metadata_v2.db"], found.named)
        found.named.update(_leased(trees["containerdmeta.db"]))
        for step in _steps(trees["snapshots.db"], found.named):
            found.steps[step.key] = replace(step, description=descriptions.get(step.key))
    except UnreadError as error:
        found.unread.append(f"{path} is damaged: {error}")
    return found


def _database(path: str, unread: list[str]) -> Tree:
    try:
        return read_bolt(path)
    except BoltError as error:
        unread.append(f"{path} is damaged: {error}")
    except OSError as error:
        unread.append(f"{path} cannot be read: {error.strerror}")
    return {}


def _steps(tree: Tree, named: set[str]) -> Iterator[CachedStep]:
    """Yield each snapshot; note all names."""
    buckets = {key: _bucket("snapshots.db", key, members) for key, members in tree.items()}
    for bucket in buckets.values():
        if unknown := bucket.keys() - _MEMBERS:
            raise UnreadError(f"snapshots.db has unknown members: {sorted(unknown)!a}")
    committed = {_text(bucket, b"committed") for bucket in buckets.values()}
    named.update(committed)
    for raw, bucket in buckets.items():
        key = _id(raw.decode(errors="replace"))
        named.add(key)
        layer = _id(_text(bucket, b"committed"))
        chain_id = _text(bucket, b"chainid")
        own = buckets.get(layer.encode(), {}) if layer else bucket
        if not layer and bucket.keys() & {b"parent", b"iscommitted"}:
            layer = key
        # Otherwise it is the layer of a result, which has a bucket too, or a layer of images.
        if key not in committed and (layer or chain_id):
            yield CachedStep(key, layer, chain_id, _text(own, b"parent"))


def _id(text: str) -> str:
    if text and not (LAYER.fullmatch(text) or text.startswith(_CHAIN)):
        raise UnreadError(f"snapshots.db has {text!a} where a layer should be")
    return text


def _described(tree: Tree, named: set[str]) -> dict[str, str]:
    """Return the description of each key; note all names."""
    found = {}
    for raw, members in _bucket("metadata_v2.db", b"_main", tree.get(b"_main", {})).items():
        key = raw.decode(errors="replace")
        values = _bucket("metadata_v2.db", raw, members)
        found[key] = _value(values, b"cache.description").strip()
        named.update((key, *(_value(values, name) for name in _OTHER_KEYS)))
    return found


def _value(values: Tree, name: bytes) -> str:
    text = values.get(name, b"")
    if not isinstance(text, bytes):
        raise UnreadError(f"metadata_v2.db has a bucket called {name!a}")
    if not text:
        return ""
    try:
        found = json.loads(text)["value"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise UnreadError(
            f"metadata_v2.db has a {name!a} that is not JSON as it should be"
        ) from error
    return str(found)


def _leased(tree: Tree) -> Iterator[str]:
    """Yield the keys of the snapshots that leases name."""
    if unknown := tree.keys() - {b"v1"}:
        raise UnreadError(f"containerdmeta.db has an unknown version: {sorted(unknown)!a}")
    for space in _buckets(tree, b"v1"):
        for lease in _buckets(space, b"leases"):
            for keys in _buckets(lease, b"snapshots"):
                for key in keys:
                    yield key.decode(errors="replace")


def _buckets(tree: Tree, name: bytes) -> Iterator[Tree]:
    """Yield the buckets in a bucket of a bucket."""
    for inner in _bucket("containerdmeta.db", name, tree.get(name, {})).values():
        if isinstance(inner, dict):
            yield inner


def _bucket(database: str, key: bytes, found: bytes | Tree) -> Tree:
    if not isinstance(found, dict):
        raise UnreadError(f"{database} has a value, not a bucket, called {key!a}")
    return found


def _text(bucket: Tree, name: bytes) -> str:
    found = bucket.get(name, b"")
    if not isinstance(found, bytes):
        raise UnreadError(f"snapshots.db has a bucket called {name!a}")
    return found.decode(errors="replace")
