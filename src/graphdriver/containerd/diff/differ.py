"""Layers of snapshots, from blobs and to blobs, by the driver that keeps the snapshots."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from graphdriver import returned
from graphdriver.abilities import Mount
from graphdriver.blobs.digests import Digested
from graphdriver.blobs.formats import (
    FORMATS,
    GZIP,
    TAR,
    Compression,
    compressed,
    decompressed,
)
from graphdriver.blobs.in_turn import InTurn
from graphdriver.blobs.read_ahead import ReadAhead
from graphdriver.containerd.diff.content import UNCOMPRESSED, Caller, ContentStore
from graphdriver.containerd.filling import Filler
from graphdriver.containerd.metadata import Snapshot, SnapshotKind
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.errors import UnknownCallError, UnsupportedError

_PIECE: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob: its media type, its digest and its size in bytes."""

    media_type: str
    digest: str
    size: int


class Differ:
    """Fills snapshots with layers, and makes layers of their changes.

    What this differ does not do, and another one may, is an `UnknownCallError`, before anything was
    read: containerd then asks the next differ of its configuration. All else is a real error.

    Args:
        snapshots: the snapshots.
        content: where the blobs are.
    """

    def __init__(self, snapshots: Snapshots, content: ContentStore) -> None:
        self._snapshots = snapshots
        self._content = content
        self._filler = Filler(snapshots.served)
        self._reading = threading.Lock()

    def apply(self, blob: Descriptor, mounts: Sequence[Mount], caller: Caller) -> Descriptor:
        """Fill an active snapshot with a layer.

        Args:
            blob: the layer; its digest is checked.
            mounts: those of the snapshot, exactly as they were given out.
            caller: who calls.

        Returns:
            The uncompressed layer.

        Raises:
            UnknownCallError: the media type is not known, or the mounts are not ours.
            UnsupportedError: the snapshot is not active.
            LayerUnfinishedError: it was filled before.
            BadArchiveError: the layer is damaged or hostile.
            BrokenStreamError: it ends early, or the caller is gone.
        """
        compression = _compression(blob.media_type)
        snapshot = self._shown(mounts)
        caller = _in_namespace(caller, snapshot)
        served = self._snapshots.served
        layer, parent = snapshot.layer, snapshot.parent_layer
        with self._snapshots.held(layer, parent, exclusive=True):
            self._expect_active(layer)
            served.expect_fillable(layer, parent)
            file = None if compression else self._content.file(blob.digest, caller)
            stream = file or self._content.read(blob.digest, caller)
            link = file.link if file else None
            with contextlib.closing(stream):
                content = Digested(stream, blob.digest)
                # The digest of a plain blob is that of its tar, unless it is of another algorithm.
                is_tars = not compression and blob.digest.startswith("sha256:")
                tar = content if is_tars else Digested(decompressed(content, compression))
                with (
                    ReadAhead(tar, stream.break_off) as ahead,
                    InTurn(ahead, self._reading) as body,
                ):
                    self._filler.fill(layer, parent, body, link)
        return Descriptor(TAR, tar.digest, tar.size)

    def diff(
        self,
        left: Sequence[Mount],
        right: Sequence[Mount],
        media_type: str,
        ref: str,
        labels: Mapping[str, str],
        caller: Caller,
    ) -> Descriptor:
        """Make a layer of what a snapshot shows otherwise than another one.

        Args:
            left: the mounts of the snapshot below; none for an empty directory.
            right: the mounts of the other one.
            media_type: of the layer; ``""`` for the usual one.
            ref: names the unfinished blob in the content store; ``""`` for any name.
            labels: for the blob.
            caller: who calls.

        Raises:
            UnknownCallError: the media type is not known, or mounts are not ours.
            UnsupportedError: the driver cannot compare them.
        """
        media_type = media_type or GZIP
        compression = _compression(media_type)
        below = self._shown(left).layer if left else ""
        snapshot = self._shown(right)
        caller = _in_namespace(caller, snapshot)
        layer = snapshot.layer
        with (
            self._snapshots.held(layer, below),
            contextlib.closing(returned.stream(self._filler.driver.diff(layer, below))) as stream,
        ):
            tar = Digested(stream)
            with ReadAhead(tar) as body:
                digest, size = self._content.write(
                    compressed(_pieces(body), compression),
                    ref,
                    lambda: {**labels, **({UNCOMPRESSED: tar.digest} if compression else {})},
                    caller,
                )
        return Descriptor(media_type, digest, size)

    def _shown(self, mounts: Sequence[Mount]) -> Snapshot:
        found = self._snapshots.shown_by(mounts)
        if found is None:
            raise UnknownCallError("the mounts are not those of a snapshot here")
        return found

    def _expect_active(self, layer: str) -> None:
        """Look again, with the layer locked: it may have been committed or removed meanwhile."""
        snapshot = self._snapshots.of_layer(layer)
        if snapshot is None or snapshot.kind is not SnapshotKind.ACTIVE:
            raise UnsupportedError("only an active snapshot can be filled with a layer")


def _in_namespace(caller: Caller, snapshot: Snapshot) -> Caller:
    """Return a caller with a namespace: the key of each snapshot begins with that of its own."""
    return caller if caller.namespace else replace(caller, namespace=snapshot.key.partition("/")[0])


def _compression(media_type: str) -> Compression:
    if media_type not in FORMATS:
        raise UnknownCallError(f"the media type {media_type[:200]!r} is not known")
    return FORMATS[media_type]


def _pieces(stream: ReadAhead) -> Iterator[bytes]:
    while piece := stream.read(_PIECE):
        yield piece
