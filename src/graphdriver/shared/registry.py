"""A store in a registry of images: one repository of it, whose tags are the keys.

A tag leads to a manifest whose config is empty, and whose one layer is the object. Whoever pushes to
the repository may replace a tag: an object is replaced by an equal one at most, by those who keep to
this. A registry does not tell when an object was read: it counts as used when it was put there, by the
registry's clock.
"""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Iterator
from typing import Any, Final

from graphdriver.driver import ClosableStream, ReadStream
from graphdriver.errors import BadArchiveError
from graphdriver.shared.layers import IMAGE
from graphdriver.shared.repository import MANIFEST, Blob, Repository, is_digest
from graphdriver.shared.store import NotStoredError, Stored
from graphdriver.shared.tags import key_of, tag_of

_CONFIG: Final = b"{}"
_EMPTY: Final = "application/vnd.oci.empty.v1+json"
_LAYER: Final = "application/vnd.graphdriver.layer.v1.erofs+zstd"
_JSON: Final = "application/json"
_CREATED: Final = "org.opencontainers.image.created"
_TITLE: Final = "org.opencontainers.image.title"


class RegistryStore:
    """A `graphdriver.shared.store.Store` in a repository of a registry.

    Args:
        address: the store as its user names it.
        repository: the repository; it is closed with this store.
    """

    in_place: Final = None

    def __init__(self, address: str, repository: Repository) -> None:
        self.address = address
        self._repository = repository
        self._config: dict[str, object] | None = None

    def size(self, key: str) -> int:
        """See `graphdriver.shared.store.Store`."""
        return self._blob(key, self._repository.manifest(tag_of(key))).size

    def read(self, key: str, start: int = 0) -> ClosableStream:
        """See `graphdriver.shared.store.Store`."""
        blob = self._blob(key, self._repository.manifest(tag_of(key)))
        return self._repository.blob(blob, start)

    def put(self, key: str, content: ReadStream) -> bool:
        """See `graphdriver.shared.store.Store`."""
        tag = tag_of(key)
        if self._repository.has_manifest(tag):
            return False
        self._config = self._config or _descriptor(
            _EMPTY, self._repository.put_blob(io.BytesIO(_CONFIG))
        )
        kind = _LAYER if key.endswith(IMAGE) else _JSON
        created = datetime.datetime.fromtimestamp(int(self._repository.now()), datetime.UTC)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": self._config,
            "layers": [_descriptor(kind, self._repository.put_blob(content))],
            "annotations": {_CREATED: created.isoformat(), _TITLE: key},
        }
        self._repository.put_manifest(tag, json.dumps(manifest).encode())
        return True

    def stored(self) -> Iterator[Stored]:
        """See `graphdriver.shared.store.Store`. A damaged object has no bytes."""
        now = self._repository.now()
        for tag in self._repository.tags():
            if not (key := key_of(tag)):
                continue
            try:
                manifest = self._repository.manifest(tag)
            except NotStoredError:  # removed meanwhile
                continue
            try:
                size = self._blob(key, manifest).size
            except BadArchiveError:
                size = 0
            yield Stored(key, size, now - _created(manifest, now))

    def remove(self, key: str) -> None:
        """See `graphdriver.shared.store.Store`."""
        try:
            manifest = self._repository.manifest(tag_of(key))
        except NotStoredError:
            return
        self._repository.remove_manifest(manifest)

    def close(self) -> None:
        """Close all connections."""
        self._repository.close()

    def _blob(self, key: str, manifest: bytes) -> Blob:
        """Return what a manifest says of its object."""
        try:
            (layer,) = json.loads(manifest)["layers"]
            digest, size = layer["digest"], layer["size"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise BadArchiveError(f"{self.address}: the manifest of {key} is damaged") from error
        if not is_digest(digest) or not isinstance(size, int) or size < 0:
            raise BadArchiveError(f"{self.address}: the manifest of {key} names no blob")
        return Blob(digest, size)


def _descriptor(media_type: str, blob: Blob) -> dict[str, object]:
    """Return what a manifest says of a blob (OCI image-spec, "Content Descriptors")."""
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}


def _created(manifest: bytes, now: float) -> float:
    """Return when an object was put into the store; now if that is not known."""
    try:
        found: Any = json.loads(manifest)
        return datetime.datetime.fromisoformat(found["annotations"][_CREATED]).timestamp()
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return now
