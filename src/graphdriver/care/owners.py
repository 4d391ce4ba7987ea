"""To which image, container or build each layer belongs, by the engines' own records.

The records of an engine are only read, never locked or written: the engine may run.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class OwnerKind(enum.Enum):
    """The kind of thing that a layer belongs to."""

    IMAGE = "image"
    CONTAINER = "container"
    BUILD_CACHE = "build cache"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class Owner:
    """A thing of an engine that a layer belongs to.

    Attributes:
        kind: its kind.
        id: the engine's ID for it: an image's digest, a container's ID, a snapshot's key.
        name: its name for people: ``debian:12``, a container's name; the ID if it has none.
    """

    kind: OwnerKind
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class KnownLayer:
    """A layer that an engine has a record of.

    Attributes:
        id: the driver's ID of the layer (Docker's ``cache-id`` or ``mount-id``).
        parent: the driver's ID of its parent; ``""``: it has none; None: the records do not say.
        owners: what needs the layer, itself or through a child.
        diff_id: the digest of its tar, ``sha256:…``; ``""`` for a layer that was not applied.
        chain_id: the digest of the chain up to it; likewise.
        size: bytes of its files, as the engine recorded them; None: not recorded.
    """

    id: str
    parent: str | None
    owners: tuple[Owner, ...] = ()
    diff_id: str = ""
    chain_id: str = ""
    size: int | None = None


@dataclass(frozen=True, slots=True)
class EngineRecords:
    """The layers that an engine has records of.

    Attributes:
        layers: each layer by the driver's ID.
        named: names in records that may be those of more layers, and need not be: of a layer that the
            engine was removing, for example. A layer of such a name is not garbage.
        unread: why a record could not be read or understood, one sentence each. If there are any, a
            layer that is missing in ``layers`` may be needed all the same.
    """

    layers: Mapping[str, KnownLayer]
    named: frozenset[str] = frozenset()
    unread: tuple[str, ...] = ()


class UnreadError(Exception):
    """A record that cannot be read or understood; the text names its file."""
