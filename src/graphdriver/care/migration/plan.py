"""The plan of a migration: two sides, the layers between them, and one way to transfer these."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from graphdriver.care.owners import KnownLayer
from graphdriver.layer.overlay.unfollowed import Unfollowed


@dataclass(frozen=True, slots=True)
class Side:
    """A storage driver of a daemon.

    Attributes:
        data_root: the daemon's directory; with remapped IDs the one named ``UID.GID`` in it.
        name: the storage driver's name, as ``docker info`` shows it.
        driver: the driver that knows the layers: of ours behind a plugin, or Docker's own.
        is_built_in: whether it is Docker's own.
    """

    data_root: str
    name: str
    driver: str
    is_built_in: bool

    @property
    def home(self) -> str:
        """The directory of its layers."""
        return os.path.join(self.data_root, self.name)

    @property
    def records(self) -> str:
        """The directory of the daemon's records of its images and layers."""
        return os.path.join(self.data_root, "image", self.name)


class LayerKind(enum.Enum):
    """What the daemon's records say of a layer."""

    IMAGE = "image"
    """It has a diff ID, and is never written to again."""
    BUILD = "build cache"
    """Only BuildKit has a record of it. It may be written to."""
    CONTAINER = "container"
    """A container, or a step of a build, writes to it; or it is such a one's ``-init`` layer."""
    UNRECORDED = "unrecorded"
    """No record names it: left by a killed daemon."""


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """A layer that is transferred. It keeps its ID.

    Attributes:
        id: the layer.
        parent: its parent; ``""``: it has none.
        kind: what the records say of it.
        path: the directory with its own content in the old home when the plan was made.
        size: the disk usage of its own content in bytes; None: not counted.
        known: the daemon's record of it; None: it does not exist.
        unfollowed: marks in it that our overlay mounts do not follow; None: it has none.
    """

    id: str
    parent: str
    kind: LayerKind
    path: str
    size: int | None = None
    known: KnownLayer | None = None
    unfollowed: Unfollowed | None = None


class Way(enum.Enum):
    """How layers are transferred."""

    MOVE = "move"
    """The driver stays, and layers are taken out of the old home."""
    COPY = "copy"
    """The driver stays, and so does the old home."""
    CONVERT = "convert"
    """Each layer is read as a tar, and applied by the new driver. The old home stays as it is."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What it costs to transfer the layers.

    Attributes:
        how: in words, for people: ``renamed``, ``copied, sharing unchanged blocks``.
        seconds: how long it takes, roughly.
        written: how many bytes are needed in addition, at most.
    """

    how: str
    seconds: float
    written: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A layer that cannot be transferred.

    Attributes:
        layer: the layer.
        text: why, in one sentence without a full stop.
    """

    layer: str
    text: str


class Transfer(Protocol):
    """One way to transfer layers from one home into another."""

    @property
    def way(self) -> Way:
        """Which way it is."""
        ...

    def refused(self, layers: Sequence[PlannedLayer]) -> Iterable[Refusal]:
        """Yield the layers that it cannot transfer; nothing is written."""
        ...

    def estimate(self, layers: Sequence[PlannedLayer]) -> Estimate:
        """Return what it costs; nothing is written."""
        ...

    def transfer(
        self,
        source: str,
        target: str,
        layers: Sequence[PlannedLayer],
        done: Callable[[PlannedLayer], None],
    ) -> None:
        """Transfer layers. No daemon runs, and nothing is mounted in either home.

        It may be killed at any call, and is called again then, with the same homes. Except with
        `Way.MOVE` a daemon may have run on the old home meanwhile: a layer that is not
        `LayerKind.IMAGE` may have changed, and any may be gone or new. The caller syncs both homes
        afterwards.

        Args:
            source: the old home. It need not have the path that its `Side` says: it may have been
                put aside. `PlannedLayer.path` is where the layer was before.
            target: the new home, which does not exist at the first call. Nothing uses it until all
                layers are there.
            layers: all layers, parents before their children.
            done: called with each layer that is there, for the progress.

        Raises:
            GraphDriverError: a layer cannot be transferred.
            OSError: the homes cannot be read or written.
        """
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What a migration will do.

    Attributes:
        source: the old side.
        target: the new side.
        transfer: the way between them.
        keeps: whether the old side's layers and its records of images stay.
        layers: all layers of the old side, parents before their children.
        images: how many images the old side has.
        containers: the IDs of its containers.
        estimate: what it costs to transfer the layers.
        refused: layers that cannot be transferred; if there are any, nothing is done.
        notes: what people should know first, one sentence each.
    """

    source: Side
    target: Side
    transfer: Transfer
    keeps: bool
    layers: tuple[PlannedLayer, ...]
    images: int
    containers: tuple[str, ...]
    estimate: Estimate
    refused: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
