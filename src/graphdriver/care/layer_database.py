"""Docker's own records of layers: ``image/NAME/layerdb`` in a data root.

- ``sha256/CHAIN-ID/``: a layer of images. ``cache-id`` is the driver's ID of it; ``parent`` the chain
  ID below it; ``diff`` the digest of its tar; ``size``.
- ``sha256/CHAIN-ID-RANDOM-removing/``: a layer that the daemon was removing. It removes the rest when
  it starts.
- ``mounts/NAME/``: a layer that is written to, of a container or of a step of a build. ``mount-id`` and
  ``init-id`` are the driver's IDs of it and of the layer between it and the image; ``parent`` is the
  chain ID of the image.
- ``tmp/``: what the daemon has begun to record. It is never read again, so it names no layer.

The source of these rules is moby's ``layer/filestore.go`` and ``layer/layer_store.go``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from graphdriver.care.owners import UnreadError
from graphdriver.files.small_files import LIMIT, read_text

_CHAIN: Final = re.compile(r"[0-9a-f]{64}")
_REMOVING: Final = re.compile(r"[0-9a-f]{64}-[0-9a-f]{64}-removing")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_SIZE: Final = re.compile(r"[0-9]{1,19}")
LAYER: Final = re.compile(r"[0-9a-z]{1,64}(-init)?")
"""64 hexadecimal digits; BuildKit's IDs are 25 digits and letters."""


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """A layer of images.

    Attributes:
        layer: the driver's ID.
        chain_id: the digest of the chain up to it.
        parent: the chain ID below it, or ``""``.
        diff_id: the digest of its tar.
        size: the bytes of its files.
    """

    layer: str
    chain_id: str
    parent: str
    diff_id: str
    size: int


@dataclass(frozen=True, slots=True)
class WritableLayer:
    """A layer that is written to.

    Attributes:
        layer: the driver's ID.
        init: the driver's ID of the layer between it and the image, or ``""``.
        name: the container's ID, or a random name for a step of a build.
        parent: the chain ID of the image, or ``""``.
    """

    layer: str
    init: str
    name: str
    parent: str


@dataclass(slots=True)
class LayerDatabase:
    """All records of a ``layerdb``.

    Attributes:
        images: the layers of images, by chain ID.
        writable: the layers that are written to.
        removing: the driver's IDs of the layers that the daemon was removing.
        unread: why a record could not be read, one sentence each.
    """

    images: dict[str, ImageLayer] = field(default_factory=dict)
    writable: list[WritableLayer] = field(default_factory=list)
    removing: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def read_layer_database(path: str) -> LayerDatabase:
    """Return all records of a ``layerdb``; a daemon may write to it meanwhile."""
    found = LayerDatabase()
    for name in _names(path, found.unread):
        if name == "sha256":
            _read_images(os.path.join(path, name), found)
        elif name == "mounts":
            _read_writable(os.path.join(path, name), found)
        elif name != "tmp":
            found.unread.append(f"{os.path.join(path, name)} is unknown")
    parents = {one.layer: one.parent for one in found.images.values()}
    parents |= {one.layer: one.parent for one in found.writable}
    for layer, parent in parents.items():
        if parent and parent not in found.images:
            found.unread.append(
                f"{path} has no record of {parent}, the parent of the layer {layer}"
            )
    return found


def _read_images(path: str, found: LayerDatabase) -> None:
    for name in _names(path, found.unread):
        directory = os.path.join(path, name)
        try:
            if _CHAIN.fullmatch(name):
                layer = _image_layer(directory, f"sha256:{name}")
                found.images[layer.chain_id] = layer
            elif _REMOVING.fullmatch(name):
                # Without a cache-id the layer is removed, and only the rest of its record is left.
                if layer_id := _read(directory, "cache-id", LAYER, needed=False):
                    found.removing.append(layer_id)
            else:
                found.unread.append(f"{directory} is unknown")
        except UnreadError as error:
            _note(error, directory, found.unread)


def _image_layer(directory: str, chain_id: str) -> ImageLayer:
    return ImageLayer(
        _read(directory, "cache-id", LAYER),
        chain_id,
        _read(directory, "parent", _DIGEST, needed=False),
        _read(directory, "diff", _DIGEST),
        int(_read(directory, "size", _SIZE)),
    )


def _read_writable(path: str, found: LayerDatabase) -> None:
    for name in _names(path, found.unread):
        directory = os.path.join(path, name)
        try:
            found.writable.append(
                WritableLayer(
                    _read(directory, "mount-id", LAYER),
                    _read(directory, "init-id", LAYER, needed=False),
                    name,
                    _read(directory, "parent", _DIGEST, needed=False),
                )
            )
        except UnreadError as error:
            _note(error, directory, found.unread)


def _note(error: UnreadError, directory: str, unread: list[str]) -> None:
    """Note a record that cannot be read, unless the daemon has just removed it."""
    if os.path.lexists(directory):
        unread.append(str(error))


def _names(path: str, unread: list[str]) -> Iterator[str]:
    try:
        yield from sorted(os.listdir(path))
    except OSError as error:
        unread.append(f"{path} cannot be read: {error.strerror}")


def _read(directory: str, name: str, form: re.Pattern[str], *, needed: bool = True) -> str:
    path = os.path.join(directory, name)
    text = read_record(path, needed=needed).strip()
    if form.fullmatch(text) or not (text or needed or os.path.lexists(path)):
        return text
    raise UnreadError(f"{path} is damaged: {text[:80]!a} is not what belongs there")


def read_record(path: str, limit: int = LIMIT, *, needed: bool = True) -> str:
    """Return the text of a record's file.

    Args:
        path: the file.
        limit: how many bytes it may have.
        needed: whether it must exist; if not, the text of a missing file is empty.

    Raises:
        UnreadError: it cannot be read.
    """
    try:
        return read_text(path, limit)
    except FileNotFoundError:
        if not needed:
            return ""
        raise UnreadError(f"{path} is missing") from None
    except ValueError as error:
        raise UnreadError(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise UnreadError(f"{path} cannot be read: {error.strerror}") from error
