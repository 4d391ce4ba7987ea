"""The gRPC service ``containerd.services.snapshots.v1.Snapshots``: messages in, messages out."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import grpc
from google.protobuf.empty_pb2 import Empty

from graphdriver.abilities import Mount
from graphdriver.containerd import _messages_pb2 as pb
from graphdriver.containerd.callers import Callers
from graphdriver.containerd.listing import Listing, info_of
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.errors import Kind
from graphdriver.serving.call_log import described
from graphdriver.serving.served_home import ServedHome

SERVICE: Final = "containerd.services.snapshots.v1.Snapshots"
_LIST: Final = f"/{SERVICE}/List"

CODES: Final = {
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Kind.MALFORMED: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.IN_USE: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.UNSUPPORTED: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.UNFINISHED: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.DAMAGED: grpc.StatusCode.DATA_LOSS,
    Kind.NOT_READY: grpc.StatusCode.UNAVAILABLE,
    Kind.UNKNOWN_CALL: grpc.StatusCode.UNIMPLEMENTED,
    Kind.BAD_ARCHIVE: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.BROKEN_STREAM: grpc.StatusCode.ABORTED,
    Kind.UNREACHABLE: grpc.StatusCode.UNAVAILABLE,
}
"""The gRPC code for each kind of error; INTERNAL for all others."""


class Handlers(grpc.GenericRpcHandler):
    """The service's handlers, for `grpc.Server.add_generic_rpc_handlers`.

    Args:
        snapshots: the snapshots.
        listing: their lists.
        callers: the processes that are connected.
        pool: the threads that send long lists. Not the server's: many may wait for readers.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        listing: Listing,
        callers: Callers,
        pool: concurrent.futures.ThreadPoolExecutor,
    ) -> None:
        self._listing = listing
        service = _Service(snapshots, callers, listing)
        single: dict[str, tuple[Callable[[Any], Any], Any]] = {
            "Prepare": (service.prepare, pb.PrepareSnapshotRequest),
            "View": (service.view, pb.ViewSnapshotRequest),
            "Mounts": (service.mounts, pb.MountsRequest),
            "Commit": (service.commit, pb.CommitSnapshotRequest),
            "Remove": (service.remove, pb.RemoveSnapshotRequest),
            "Stat": (service.stat, pb.StatSnapshotRequest),
            "Update": (service.update, pb.UpdateSnapshotRequest),
            "List": (service.list, pb.ListSnapshotsRequest),
            "Usage": (service.usage, pb.UsageRequest),
            "Cleanup": (service.cleanup, pb.CleanupRequest),
        }
        self._single: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            f"/{SERVICE}/{name}": grpc.unary_unary_rpc_method_handler(
                _answering(snapshots.served, name, call),
                request.FromString,
                lambda answer: answer.SerializeToString(),
            )
            for name, (call, request) in single.items()
        }
        stream: Any = _streaming(snapshots.served, "List", service.list_in_pieces)
        stream.experimental_thread_pool = pool
        self._stream: grpc.RpcMethodHandler[Any, Any] = grpc.unary_stream_rpc_method_handler(
            stream,
            pb.ListSnapshotsRequest.FromString,
            pb.ListSnapshotsResponse.SerializeToString,
        )

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of a call; must not wait, since gRPC asks one call after the other."""
        if handler_call_details.method == _LIST and not self._listing.is_short():
            return self._stream
        return self._single.get(handler_call_details.method)


class _Service:
    def __init__(self, snapshots: Snapshots, callers: Callers, listing: Listing) -> None:
        self._snapshots = snapshots
        self._callers = callers
        self._listing = listing

    def prepare(self, request: pb.PrepareSnapshotRequest) -> pb.PrepareSnapshotResponse:
        self._listing.will_write(request)
        made = self._snapshots.prepare(request.key, request.parent, request.labels)
        return pb.PrepareSnapshotResponse(mounts=_mounts(made))

    def view(self, request: pb.ViewSnapshotRequest) -> pb.ViewSnapshotResponse:
        self._listing.will_write(request)
        made = self._snapshots.view(request.key, request.parent, request.labels)
        return pb.ViewSnapshotResponse(mounts=_mounts(made))

    def mounts(self, request: pb.MountsRequest) -> pb.MountsResponse:
        return pb.MountsResponse(mounts=_mounts(self._snapshots.mounts(request.key)))

    def commit(self, request: pb.CommitSnapshotRequest) -> Empty:
        self._listing.will_write(request)
        self._snapshots.commit(request.name, request.key, request.labels, request.parent)
        return Empty()

    def remove(self, request: pb.RemoveSnapshotRequest) -> Empty:
        self._snapshots.remove(request.key)
        return Empty()

    def stat(self, request: pb.StatSnapshotRequest) -> pb.StatSnapshotResponse:
        return pb.StatSnapshotResponse(info=info_of(self._snapshots.stat(request.key)))

    def update(self, request: pb.UpdateSnapshotRequest) -> pb.UpdateSnapshotResponse:
        self._listing.will_write(request)
        paths = list(request.update_mask.paths)
        new = self._snapshots.update(request.info.name, request.info.labels, paths)
        return pb.UpdateSnapshotResponse(info=info_of(new))

    def list(self, request: pb.ListSnapshotsRequest) -> pb.ListSnapshotsResponse:
        self._look(request)
        return self._listing.whole(request.filters)

    def list_in_pieces(
        self, request: pb.ListSnapshotsRequest
    ) -> Iterator[pb.ListSnapshotsResponse]:
        self._look(request)
        return self._listing.pieces(request.filters)

    def _look(self, request: pb.ListSnapshotsRequest) -> None:
        if not request.filters:  # a garbage collection begins with this call
            self._callers.look()

    def usage(self, request: pb.UsageRequest) -> pb.UsageResponse:
        usage = self._snapshots.usage(request.key)
        return pb.UsageResponse(size=usage.size, inodes=usage.inodes)

    def cleanup(self, _request: pb.CleanupRequest) -> Empty:
        self._snapshots.cleanup()
        return Empty()


def _answering(served: ServedHome, name: str, answered: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return the handler of a call that is answered with one message."""

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        with logged(served, name, request, context):
            return answered(request)

    return answer


def _streaming(
    served: ServedHome, name: str, answered: Callable[[Any], Iterator[Any]]
) -> Callable[..., Iterator[Any]]:
    """Return the handler of a call that is answered with a stream of messages."""

    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with logged(served, name, request, context):
            yield from answered(request)

    return answer


@contextlib.contextmanager
def logged(
    served: ServedHome, name: str, request: Any, context: grpc.ServicerContext
) -> Iterator[None]:
    """Log a call, and answer its error with a code and a text."""
    call = served.calls.begin(name)
    call.snapshot = getattr(request, "key", "") or None
    try:
        with served:
            yield
    except (Exception, SystemExit) as error:  # grpcio answers nothing to a SystemExit
        answered = described(error).about(call.name.lower(), None)
        code = CODES.get(answered.kind, grpc.StatusCode.INTERNAL)
        call.failed(code.name, answered, error)
        context.abort(code, str(answered))  # raises, which ends the call
    except BaseException:  # the caller has cancelled the stream, or the process ends
        call.end()
        raise
    else:
        call.done(grpc.StatusCode.OK.name)


def _mounts(mounts: Iterable[Mount]) -> list[pb.Mount]:
    return [pb.Mount(type=one.type, source=one.source, options=one.options) for one in mounts]
