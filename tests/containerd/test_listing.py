"""Lists: as many as there are and however long, they hold up no other call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from graphdriver.conformance.snapshotter.calls import Calls
from graphdriver.containerd import _messages_pb2 as pb
from graphdriver.containerd.callers import Callers
from graphdriver.containerd.listing import Listing
from graphdriver.containerd.server import THREADS, SnapshotterServer
from graphdriver.containerd.service import SERVICE, Handlers
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.drivers.vfs.driver import VfsDriver

pytestmark = pytest.mark.root

LABELS = {"note": "x" * 4000}


@pytest.fixture
def snapshots(tmp_path: Path) -> Iterator[Snapshots]:
    options = ["sync=none"]
    with contextlib.closing(Snapshots(VfsDriver(), str(tmp_path / "root"), options)) as one:
        one.prepare("a", "", {})
        one.commit("A", "a", LABELS)
        for number in range(250):
            one.view(f"view-{number}", "A", LABELS)
        yield one


def unread(address: str) -> Any:
    """Begin a List that nobody reads; return the call."""
    # Without more of its own options gRPC shares a connection.
    channel = grpc.insecure_channel(
        f"unix:{address}",
        [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 1 << 30)],
    )
    call = channel.unary_stream(
        f"/{SERVICE}/List",
        pb.ListSnapshotsRequest.SerializeToString,
        pb.ListSnapshotsResponse.FromString,
    )
    return call(pb.ListSnapshotsRequest())


def test_lists_that_nobody_reads_hold_up_nobody(snapshots: Snapshots, folder: Path) -> None:
    with (
        SnapshotterServer(snapshots, str(folder / "s.sock")) as server,
        contextlib.closing(Calls(server.address)) as calls,
    ):
        waiting = [unread(server.address) for _ in range(THREADS)]
        assert calls.stat("A").name == "A"
        assert len(calls.list()) == 251
        calls.remove("view-0")
        for one in waiting:
            one.cancel()


def test_long_lists_that_nobody_reads_hold_up_long_lists_only(
    snapshots: Snapshots, folder: Path
) -> None:
    with (
        SnapshotterServer(snapshots, str(folder / "s.sock")) as server,
        contextlib.closing(Calls(server.address)) as calls,
    ):
        for number in range(250):
            calls.update(f"view-{number}", {"note": "x" * 40_000})
        waiting = [unread(server.address) for _ in range(THREADS)]
        assert calls.stat("A").name == "A"
        calls.remove("view-0")
        for one in waiting:
            one.cancel()
        assert len(calls.list()) == 250


def test_what_is_written_counts_until_a_list_has_counted_it(snapshots: Snapshots) -> None:
    size = Listing(snapshots).whole(()).ByteSize()
    listing = Listing(snapshots, short=size + 5000)
    assert listing.is_short()
    for key in ("one", "two"):
        listing.will_write(pb.ViewSnapshotRequest(key=key, parent="A", labels=LABELS))
        snapshots.view(key, "A", LABELS)
    assert not listing.is_short()
    snapshots.remove("one")
    listing.whole(())
    assert listing.is_short()


def test_a_list_in_pieces_is_the_same_list(snapshots: Snapshots) -> None:
    listing = Listing(snapshots)
    pieces = list(listing.pieces(()))
    assert len(pieces) == 3
    assert [one for piece in pieces for one in piece.info] == list(listing.whole(()).info)


class ListDetails(grpc.HandlerCallDetails):
    """What grpcio says of a call for the list of snapshots."""

    method = f"/{SERVICE}/List"
    invocation_metadata = ()


def test_only_a_list_that_is_short_for_certain_is_one_message(snapshots: Snapshots) -> None:
    size = Listing(snapshots).whole(()).ByteSize()
    for short, is_stream in ((size, False), (size - 1, True)):
        with ThreadPoolExecutor(1) as pool:
            handlers = Handlers(snapshots, Listing(snapshots, short), Callers(), pool)
            handler: Any = handlers.service(ListDetails())
        assert handler.response_streaming is is_stream
