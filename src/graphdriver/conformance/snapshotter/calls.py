"""The calls that containerd makes to a snapshotter, over a separate connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from graphdriver.conformance.kit.expect import Mismatch
from graphdriver.containerd import _messages_pb2 as pb
from graphdriver.containerd.diff.service import SERVICE as DIFF_SERVICE
from graphdriver.containerd.listing import LARGEST_MESSAGE
from graphdriver.containerd.service import SERVICE

NOT_FOUND: Final = grpc.StatusCode.NOT_FOUND
EXISTS: Final = grpc.StatusCode.ALREADY_EXISTS
INVALID: Final = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION: Final = grpc.StatusCode.FAILED_PRECONDITION

TAR: Final = "application/vnd.oci.image.layer.v1.tar"
GZIP: Final = f"{TAR}+gzip"
"""Media types of layers (OCI image-spec)."""

_ANSWER_IN: Final = 60.0
"""Time limit for one response, in seconds."""

_MOST_LISTED: Final = 100_000
"""Most snapshots of one List; gRPC itself limits every other response."""


class Calls:
    """The service's calls; each raises `grpc.RpcError` if it is rejected.

    Args:
        address: the absolute path of a unix socket.

    Attributes:
        snapshotter: its name, where one socket serves several, as containerd's own does.
        metadata: gRPC's, sent with each call.
    """

    snapshotter: str = ""
    metadata: tuple[tuple[str, str], ...] = ()

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(
            f"unix:{address}", [("grpc.max_receive_message_length", LARGEST_MESSAGE)]
        )

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def prepare(self, key: str, parent: str = "", **labels: str) -> list[pb.Mount]:
        """Create a writable snapshot."""
        request = pb.PrepareSnapshotRequest(key=key, parent=parent, labels=labels)
        return list(self._call("Prepare", request, pb.PrepareSnapshotResponse).mounts)

    def view(self, key: str, parent: str = "", **labels: str) -> list[pb.Mount]:
        """Create a read-only snapshot."""
        request = pb.ViewSnapshotRequest(key=key, parent=parent, labels=labels)
        return list(self._call("View", request, pb.ViewSnapshotResponse).mounts)

    def mounts(self, key: str) -> list[pb.Mount]:
        """Return a snapshot's mounts again."""
        return list(self._call("Mounts", pb.MountsRequest(key=key), pb.MountsResponse).mounts)

    def commit(self, name: str, key: str, parent: str = "", **labels: str) -> None:
        """Make an active snapshot a committed one; give it a parent, if it was made without one."""
        request = pb.CommitSnapshotRequest(name=name, key=key, labels=labels, parent=parent)
        self._call("Commit", request, pb.CleanupRequest)

    def remove(self, key: str) -> None:
        """Remove a snapshot."""
        self._call("Remove", pb.RemoveSnapshotRequest(key=key), pb.CleanupRequest)

    def stat(self, key: str) -> pb.Info:
        """Return the record of a snapshot."""
        found: pb.Info = self._call(
            "Stat", pb.StatSnapshotRequest(key=key), pb.StatSnapshotResponse
        ).info
        return found

    def update(self, name: str, labels: Mapping[str, str], paths: Sequence[str] = ()) -> pb.Info:
        """Change labels; all of them without paths."""
        request = pb.UpdateSnapshotRequest(
            info=pb.Info(name=name, labels=labels), update_mask=FieldMask(paths=paths)
        )
        found: pb.Info = self._call("Update", request, pb.UpdateSnapshotResponse).info
        return found

    def list(self, *filters: str) -> list[pb.Info]:
        """List snapshots."""
        call = self._channel.unary_stream(
            f"/{SERVICE}/List",
            pb.ListSnapshotsRequest.SerializeToString,
            pb.ListSnapshotsResponse.FromString,
        )
        request = pb.ListSnapshotsRequest(snapshotter=self.snapshotter, filters=filters)
        answers = call(request, metadata=self.metadata, timeout=_ANSWER_IN)
        found: list[pb.Info] = []
        for answer in answers:
            found += answer.info
            if len(found) > _MOST_LISTED:
                answers.cancel()
                raise Mismatch("List", f"over {_MOST_LISTED} snapshots", "the existing ones")
        return found

    def usage(self, key: str) -> pb.UsageResponse:
        """Return the usage of a snapshot without its parents."""
        found: pb.UsageResponse = self._call("Usage", pb.UsageRequest(key=key), pb.UsageResponse)
        return found

    def cleanup(self) -> None:
        """Remove everything that belongs to no snapshot."""
        self._call("Cleanup", pb.CleanupRequest(), pb.CleanupRequest)

    def _call(self, name: str, request: Any, answer: Any) -> Any:
        call = self._channel.unary_unary(
            f"/{SERVICE}/{name}", type(request).SerializeToString, answer.FromString
        )
        request.snapshotter = self.snapshotter
        return call(request, metadata=self.metadata, timeout=_ANSWER_IN, wait_for_ready=True)


class DiffCalls:
    """The calls of a snapshotter's diff service; each raises `grpc.RpcError` if it is rejected.

    Args:
        address: the absolute path of the snapshotter's socket.

    Attributes:
        metadata: gRPC's, sent with each call.
    """

    metadata: tuple[tuple[str, str], ...] = (("containerd-namespace", "conform"),)

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(f"unix:{address}")

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def apply(
        self, digest: str, mounts: Sequence[pb.Mount], media_type: str = TAR
    ) -> pb.Descriptor:
        """Fill a snapshot with a blob; return the uncompressed layer."""
        request = pb.ApplyRequest(
            diff=pb.Descriptor(media_type=media_type, digest=digest), mounts=mounts
        )
        found: pb.Descriptor = self._call("Apply", request, pb.ApplyResponse).applied
        return found

    def diff(self, left: Sequence[pb.Mount], right: Sequence[pb.Mount]) -> pb.Descriptor:
        """Make a layer of the differences; return its blob."""
        request = pb.DiffRequest(left=left, right=right)
        found: pb.Descriptor = self._call("Diff", request, pb.DiffResponse).diff
        return found

    def _call(self, name: str, request: Any, answer: Any) -> Any:
        call = self._channel.unary_unary(
            f"/{DIFF_SERVICE}/{name}", type(request).SerializeToString, answer.FromString
        )
        return call(request, metadata=self.metadata, timeout=_ANSWER_IN, wait_for_ready=True)


def expect_code(what: str, code: grpc.StatusCode, call: Callable[[], object]) -> None:
    """Expect that a call is rejected with a code.

    Raises:
        Mismatch: it succeeded, or was rejected with another code.
    """
    try:
        call()
    except grpc.RpcError as error:
        found = code_of(error)
        if found is not code:
            details: Any = error
            raise Mismatch(what, f"{found.name}: {details.details()}", code.name) from error
        return
    raise Mismatch(what, "success", code.name)


def code_of(error: grpc.RpcError) -> grpc.StatusCode:
    """Return the code of a rejected call."""
    call: Any = error  # grpcio's errors are calls, too
    code: grpc.StatusCode = call.code()
    return code
