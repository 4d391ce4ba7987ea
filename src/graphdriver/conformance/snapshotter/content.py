"""A content store in memory, in place of containerd's, for a snapshotter's diff service.

Two services: ``containerd.services.content.v1.Content`` (Read, Write, Update, Abort) and Create of
``containerd.services.leases.v1.Leases``. Other calls are not known.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
from collections.abc import Iterator
from typing import Any, Final, Self

import grpc
from google.protobuf.empty_pb2 import Empty

from graphdriver.containerd import _messages_pb2 as pb

_PIECE: Final = 1 << 20


class Content:
    """Blobs by their digests, served on a socket for the length of a ``with`` block.

    Args:
        address: the absolute path of the socket; a file there is replaced.

    Attributes:
        labels: the labels of each blob that a Diff has written, by digest.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._blobs: dict[str, bytes] = {}
        self.labels: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Self:
        os.makedirs(os.path.dirname(self._address), exist_ok=True)
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        unary, ready = grpc.unary_unary_rpc_method_handler, Empty.SerializeToString
        content: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Read": grpc.unary_stream_rpc_method_handler(
                self._read, pb.ReadBlobRequest.FromString, pb.ReadBlobResponse.SerializeToString
            ),
            "Write": grpc.stream_stream_rpc_method_handler(
                self._write, pb.WriteBlobRequest.FromString, pb.WriteBlobResponse.SerializeToString
            ),
            "Update": unary(self._update, pb.UpdateBlobRequest.FromString, ready),
            "Abort": unary(_nothing, pb.AbortRequest.FromString, ready),
        }
        leases = {"Create": unary(_nothing, pb.CreateLeaseRequest.FromString, ready)}
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "containerd.services.content.v1.Content", content
                ),
                grpc.method_handlers_generic_handler(
                    "containerd.services.leases.v1.Leases", leases
                ),
            )
        )
        self._server.add_insecure_port(f"unix:{self._address}")
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop(0).wait()

    def add(self, blob: bytes, digest: str = "") -> str:
        """Add a blob, under another digest than its own if one is given; return its digest."""
        digest = digest or f"sha256:{hashlib.sha256(blob).hexdigest()}"
        self._blobs[digest] = blob
        return digest

    def blob(self, digest: str) -> bytes | None:
        """Return a blob; None if it does not exist."""
        return self._blobs.get(digest)

    def _read(
        self, request: pb.ReadBlobRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ReadBlobResponse]:
        blob = self._blobs.get(request.digest)
        if blob is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"content {request.digest}: not found")
        end = request.offset + request.size if request.size else len(blob)
        for at in range(request.offset, min(end, len(blob)), _PIECE):
            yield pb.ReadBlobResponse(offset=at, data=blob[at : min(at + _PIECE, end)])

    def _write(
        self, requests: Iterator[pb.WriteBlobRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.WriteBlobResponse]:
        blob = bytearray()
        for request in requests:
            blob += request.data
            digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
            if request.action == pb.COMMIT:
                if request.expected not in ("", digest) or request.total not in (0, len(blob)):
                    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "it is another blob")
                self.add(bytes(blob))
                self.labels[digest] = dict(request.labels)
            yield pb.WriteBlobResponse(
                action=request.action, offset=len(blob), total=len(blob), digest=digest
            )

    def _update(self, request: pb.UpdateBlobRequest, _context: grpc.ServicerContext) -> Empty:
        self.labels.setdefault(request.info.digest, {}).update(request.info.labels)
        return Empty()


def _nothing(_request: Any, _context: grpc.ServicerContext) -> Empty:
    return Empty()
