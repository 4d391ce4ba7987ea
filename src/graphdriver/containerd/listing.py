"""Snapshots as messages of containerd's API: the record of one, and the list of all.

A thread that sends a stream of messages waits until its caller reads them. A single message is
handed to gRPC, and no thread waits. A caller of List cannot tell a stream of one message from a single
message. So a list is a single message if it is short enough for containerd's limit, and callers that do
not read their lists hold up nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from graphdriver.containerd import _messages_pb2 as pb
from graphdriver.containerd.metadata import Snapshot
from graphdriver.containerd.snapshots import Snapshots

LARGEST_MESSAGE: Final = 16 << 20
"""The largest message that containerd takes of a snapshotter, in bytes.

(containerd, defaults/defaults.go, DefaultMaxRecvMsgSize.)
"""

_SHORT: Final = LARGEST_MESSAGE // 2
_REST: Final = 64
"""What a record has besides its names and labels, in bytes at most: its kind and two times."""

_AT_A_TIME: Final = 100


class Listing:
    """The lists of snapshots, and how long they can be.

    Args:
        snapshots: the snapshots.
        short: up to how many bytes a list is a single message.
    """

    def __init__(self, snapshots: Snapshots, short: int = _SHORT) -> None:
        self._snapshots = snapshots
        self._short = short
        self._guard = threading.Lock()
        self._written = 0
        self._known = 0
        self.whole(())

    def will_write(self, request: Any) -> None:
        """Note that a request is going to make a snapshot, or to change its name or labels."""
        with self._guard:
            self._written += request.ByteSize() + _REST

    def is_short(self) -> bool:
        """Tell whether a list of all snapshots is short; waits for nothing.

        It is as long as the last one, and what was written since. Removals are not counted.
        """
        with self._guard:
            return self._known + self._written <= self._short

    def whole(self, filters: Sequence[str]) -> pb.ListSnapshotsResponse:
        """Return the snapshots that match any of the filters in one message."""
        with self._guard:
            written = self._written
        message = pb.ListSnapshotsResponse(info=map(info_of, self._snapshots.find(filters)))
        if not filters:
            with self._guard:
                self._known = message.ByteSize() - written
        return message

    def pieces(self, filters: Sequence[str]) -> Iterator[pb.ListSnapshotsResponse]:
        """Yield the same in messages of a hundred snapshots."""
        whole = self.whole(filters).info
        for at in range(0, len(whole), _AT_A_TIME):
            yield pb.ListSnapshotsResponse(info=whole[at : at + _AT_A_TIME])


def info_of(one: Snapshot) -> pb.Info:
    """Return a snapshot's record."""
    return pb.Info(
        name=one.key,
        parent=one.parent,
        kind=pb.Kind.Name(int(one.kind)),
        created_at=_time(one.created),
        updated_at=_time(one.updated),
        labels=one.labels,
    )


def _time(nanoseconds: int) -> Timestamp:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=rest)
