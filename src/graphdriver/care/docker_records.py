"""A Docker daemon's records of its layers: which there are, and what needs each of them.

- ``image/NAME/layerdb`` (`graphdriver.care.layer_database`) names the layers of images and containers.
- ``image/NAME/imagedb/content/sha256/HEX`` is an image: its ``diff_ids``, from the lowest layer up,
  tell the chain IDs of its layers (OCI image-spec, config.md). The file's name is the digest of its
  bytes.
- ``image/NAME/repositories.json`` has the names of images.
- ``containers/ID/config.v2.json`` is a container. Its layer is ``mounts/ID`` in ``layerdb``.
- ``buildkit/`` (`graphdriver.care.build_records`) names the layers of BuildKit's cache.

No other file of a data root names a layer of a graph driver.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final, TypeGuard

from graphdriver.care.build_records import BuildRecords, CachedStep, read_build_records
from graphdriver.care.layer_database import LayerDatabase, read_layer_database, read_record
from graphdriver.care.owners import EngineRecords, KnownLayer, Owner, OwnerKind, UnreadError
from graphdriver.files.small_files import parse_object

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MANAGED: Final = re.compile(r"(/.+)/plugins/[0-9a-f]{64}/propagated-mount/(.+)")
_TRIES: Final = 3
_NAMES_LIMIT: Final = 64 << 20
"""Bytes of ``repositories.json``, which grows with each name."""


def place_of(home: str) -> tuple[str, str]:
    """Return the data root that a home is in, and the storage driver's name there.

    A managed plugin has its home in ``DATA-ROOT/plugins/ID/propagated-mount/NAME``, any other in
    ``DATA-ROOT/NAME``.
    """
    managed = _MANAGED.fullmatch(home)
    return (managed[1], managed[2]) if managed else os.path.split(home)


def read_docker(data_root: str, name: str) -> EngineRecords:
    """Return the layers that a Docker daemon has records of; it may run and change them meanwhile.

    Args:
        data_root: the daemon's directory; with remapped IDs the one named ``UID.GID`` in it.
        name: the storage driver's name, as ``docker info`` shows it.
    """
    # A daemon that runs may have removed an image between two reads, whose layers are missed then.
    for _ in range(_TRIES):
        records = _read(data_root, name)
        if not records.unread:
            break
    return records


def _read(data_root: str, name: str) -> EngineRecords:
    database = read_layer_database(os.path.join(data_root, "image", name, "layerdb"))
    builds = read_build_records(os.path.join(data_root, "buildkit"))
    unread = [*database.unread, *builds.unread]
    images = [*_images(os.path.join(data_root, "image", name), unread)]
    containers = _containers(os.path.join(data_root, "containers"), name, unread)
    known = _known(database, builds)
    owners: dict[str, list[Owner]] = defaultdict(list)

    def give(owner: Owner, layers: Iterable[str]) -> None:
        for layer in layers:
            owners[layer].append(owner)

    for owner, top in images:
        if top in database.images:
            give(owner, _chain(known, database.images[top].layer))
        elif top:
            unread.append(f"the layers of the image {owner.name} have no record: {top}")
    for mount in database.writable:
        if mount.name in containers:
            owner = Owner(OwnerKind.CONTAINER, mount.name, containers.pop(mount.name))
            give(owner, _chain(known, mount.layer))
    # The daemon records a container after its layer, and removes that record first.
    if not database.unread:
        unread += [
            f"the layer of the container {name} has no record" for name in containers.values()
        ]
    cached = {step: _layer_of(step, database) for step in builds.steps.values()}
    parents = {known[layer].parent for layer in cached.values() if layer}
    for step, layer in cached.items():
        if layer and step.description is not None:
            owner = Owner(OwnerKind.BUILD_CACHE, step.key, step.description or step.key)
            # All that is cached below has an owner of its own.
            give(owner, (layer,) if layer in parents else _chain(known, layer))
    layers = {id: replace(one, owners=tuple(owners[id])) for id, one in known.items()}
    return EngineRecords(layers, frozenset((*database.removing, *builds.named)), tuple(unread))


def _layer_of(step: CachedStep, database: LayerDatabase) -> str:
    """Return the driver's ID of the layer of a step, ``""`` if that layer is gone."""
    image = database.images.get(step.chain_id)
    return image.layer if image else step.layer


def _known(database: LayerDatabase, builds: BuildRecords) -> dict[str, KnownLayer]:
    """Return all layers that have a record, without their owners."""
    images = database.images

    def layer_of(key: str) -> str | None:
        """Return the driver's ID of the layer of a chain ID, or of a key of BuildKit's."""
        if not key:
            return ""
        if key in images:
            return images[key].layer
        return (_layer_of(builds.steps[key], database) or None) if key in builds.steps else None

    known = {
        step.layer: KnownLayer(step.layer, layer_of(step.parent))
        for step in builds.steps.values()
        if step.layer
    }
    for one in images.values():
        known[one.layer] = KnownLayer(
            one.layer,
            layer_of(one.parent),
            diff_id=one.diff_id,
            chain_id=one.chain_id,
            size=one.size,
        )
    for mount in database.writable:
        below = layer_of(mount.parent)
        if mount.init:
            known[mount.init] = KnownLayer(mount.init, below)
        known[mount.layer] = KnownLayer(mount.layer, mount.init or below)
    return known


def _chain(known: Mapping[str, KnownLayer], layer: str) -> Iterator[str]:
    """Yield a layer and all below it; after damage the parents may lead in a circle."""
    seen: set[str] = set()
    at: str | None = layer
    while at and at in known and at not in seen:
        seen.add(at)
        yield at
        at = known[at].parent


# --- images and containers ------------------------------------------------------------------------


def _images(path: str, unread: list[str]) -> Iterator[tuple[Owner, str]]:
    """Yield each image and the chain ID of its topmost layer, ``""`` if it has no layer."""
    names = _image_names(os.path.join(path, "repositories.json"), unread)
    content = os.path.join(path, "imagedb", "content", "sha256")
    for name in _names(content, unread):
        file = os.path.join(content, name)
        digest = f"sha256:{name}"
        try:
            text = read_record(file)
            if hashlib.sha256(text.encode()).hexdigest() != name:
                raise UnreadError(f"{file} is damaged: its name is not the digest of its bytes")
            rootfs = _object(_json(file, text).get("rootfs"))
            diff_ids = (rootfs or {}).get("diff_ids") or []
            if rootfs is None or not _are_digests(diff_ids):
                raise UnreadError(f"{file} is damaged: it has no list of layers")
        except UnreadError as error:
            if os.path.lexists(file):
                unread.append(str(error))
        else:
            shown = ", ".join(sorted(names.get(digest, ()))) or digest
            yield Owner(OwnerKind.IMAGE, digest, shown), chain_id(diff_ids)


def chain_id(diff_ids: Iterable[str]) -> str:
    """Return the chain ID of a list of layers, from the lowest up (OCI image-spec, config.md)."""
    chain = ""
    for diff_id in diff_ids:
        if chain:
            chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}"
        else:
            chain = diff_id
    return chain


def _image_names(path: str, unread: list[str]) -> dict[str, list[str]]:
    """Return the names of each image by its digest."""
    found: dict[str, list[str]] = defaultdict(list)
    try:
        text = read_record(path, _NAMES_LIMIT, needed=False)
        repositories = _object(_json(path, text).get("Repositories")) if text else {}
        for names in (repositories or {}).values():
            for name, digest in (_object(names) or {}).items():
                found[str(digest)].append(name)
    except UnreadError as error:
        unread.append(str(error))
    return found


def _containers(path: str, driver: str, unread: list[str]) -> dict[str, str]:
    """Return the names of the containers on a storage driver by their IDs."""
    found = {}
    for id in _names(path, unread):
        file = os.path.join(path, id, "config.v2.json")
        if not os.path.lexists(file):
            continue  # the rest of a container whose removal was cut off; the daemon ignores it
        try:
            config = _json(file, read_record(file))
            name, on = config.get("Name"), config.get("Driver")
            if not (isinstance(name, str) and isinstance(on, str)):
                raise UnreadError(f"{file} is damaged: it has no name, or no driver")
        except UnreadError as error:
            if os.path.lexists(file):
                unread.append(str(error))
        else:
            if on == driver:
                found[id] = name.removeprefix("/") or id
    return found


def _names(path: str, unread: list[str]) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []  # no daemon has had one of these yet
    except OSError as error:
        unread.append(f"{path} cannot be read: {error.strerror}")
        return []


def _json(path: str, text: str) -> dict[str, object]:
    try:
        return parse_object(text)
    except ValueError as error:
        raise UnreadError(f"{path} is damaged: {error}") from error


def _object(value: object) -> dict[str, object] | None:
    return value if isinstance(value, dict) else None


def _are_digests(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(
        isinstance(one, str) and _DIGEST.fullmatch(one) for one in value
    )
