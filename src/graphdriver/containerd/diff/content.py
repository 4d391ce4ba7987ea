"""The client of containerd's content store: blobs, by their digests.

containerd keeps blobs by namespace, and collects those that nothing refers to. So each call has the
namespace and the lease of the call that it is made for. containerd up to 2.4 does not pass them on to a
diff service (containerd#12328). Then the namespace is that of the snapshot, and a blob that is
written gets a lease of its own, which expires after an hour: until then an image refers to it.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from graphdriver.blobs.digests import Digested, is_digest
from graphdriver.containerd import _messages_pb2 as pb
from graphdriver.containerd.daemon_client import plugins_of
from graphdriver.containerd.diff.blob_files import BlobFile, open_blob
from graphdriver.errors import (
    BadAnswerError,
    BrokenStreamError,
    GraphDriverError,
    LayerNotFoundError,
    UnreachableError,
)

UNCOMPRESSED: Final = "containerd.io/uncompressed"
"""The label of a compressed blob with the digest of what it holds."""

NAMESPACE: Final = "containerd-namespace"
LEASE: Final = "containerd-lease"
"""Headers of containerd's calls."""

_EXPIRES: Final = "containerd.io/gc.expire"
_LEASED_FOR: Final = timedelta(hours=1)

_PLUGIN: Final = "io.containerd.content.v1"
_LEASES: Final = "/containerd.services.leases.v1.Leases/"
_SERVICE: Final = "/containerd.services.content.v1.Content/"
_LARGEST_MESSAGE: Final = 16 << 20
"""Bytes; containerd's own limit."""

_PIECE: Final = 1 << 20
"""How much of a blob is sent in one message, in bytes."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of the diff service; the content store is asked in its name.

    Attributes:
        namespace: its namespace.
        lease: the ID of its lease; ``""`` if it has none.
        when_gone: takes a function that is to be called if the caller goes away; returns False if it is
            gone already.
    """

    namespace: str
    lease: str
    when_gone: Callable[[Callable[[], None]], bool]

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers of calls that are made for it."""
        headers = ((NAMESPACE, self.namespace), (LEASE, self.lease))
        return tuple(header for header in headers if header[1])

    def cancels(self, call: Any) -> None:
        """Cancel a call to the content store when the caller goes away."""
        if not self.when_gone(call.cancel):
            call.cancel()


class ContentStore:
    """The content store of a containerd.

    Args:
        address: containerd's own socket.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._root = ""
        self._channel = grpc.insecure_channel(
            f"unix:{address}",
            [
                ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def read(self, digest: str, caller: Caller, size: int = 0) -> BlobStream:
        """Return a blob's stream, or that of its first bytes; its errors come when it is read."""
        method = self._channel.unary_stream(
            f"{_SERVICE}Read",
            pb.ReadBlobRequest.SerializeToString,
            pb.ReadBlobResponse.FromString,
        )
        call = method(pb.ReadBlobRequest(digest=digest, size=size), metadata=caller.metadata)
        caller.cancels(call)
        return BlobStream(self, digest, call)

    def file(self, digest: str, caller: Caller) -> BlobFile | None:
        """Return a blob's file, or None if it cannot be reached from here.

        The store is asked for the blob's first byte before: the caller's namespace must have it.

        Raises:
            LayerNotFoundError: the store does not have the blob.
            UnreachableError: containerd does not answer.
        """
        if not is_digest(digest):
            return None
        with contextlib.closing(self.read(digest, caller, size=1)) as first:
            first.read(1)
        file = open_blob(self._directory(), digest)
        if file and not caller.when_gone(file.break_off):
            file.break_off()
        return file

    def _directory(self) -> str:
        """Return the directory of the store, as containerd tells it; ``""`` if it does not."""
        if not self._root:
            with contextlib.suppress(grpc.RpcError, DecodeError):
                found = (one for one in plugins_of(self._channel, 60) if one.type == _PLUGIN)
                self._root = next((one.exports.get("root", "") for one in found), "")
        return self._root

    def write(
        self,
        pieces: Iterator[bytes],
        ref: str,
        labels: Callable[[], Mapping[str, str]],
        caller: Caller,
    ) -> tuple[str, int]:
        """Write a blob; after an error nothing of it is left.

        Args:
            pieces: its content.
            ref: names the unfinished blob in the store; ``""`` for a name of our own.
            labels: returns the blob's labels, at its end.
            caller: as for all calls.

        Returns:
            The blob's digest and size.
        """
        ref = ref or f"graphdriver-{secrets.token_hex(16)}"
        if not caller.lease:
            caller = self._leased(caller)
        method = self._channel.stream_stream(
            f"{_SERVICE}Write",
            pb.WriteBlobRequest.SerializeToString,
            pb.WriteBlobResponse.FromString,
        )
        requests: queue.SimpleQueue[pb.WriteBlobRequest | None] = queue.SimpleQueue()
        call: Any = method(iter(requests.get, None), metadata=caller.metadata)
        caller.cancels(call)
        content = Digested(_Joined(pieces))
        try:
            while piece := content.read(_PIECE):
                requests.put(
                    pb.WriteBlobRequest(
                        action=pb.WRITE, ref=ref, offset=content.size - len(piece), data=piece
                    )
                )
                next(call)
            given = dict(labels())
            requests.put(
                pb.WriteBlobRequest(
                    action=pb.COMMIT,
                    ref=ref,
                    offset=content.size,
                    total=content.size,
                    expected=content.digest,
                    labels=given,
                )
            )
            next(call)
        except grpc.RpcError as error:
            if _code(error) is not grpc.StatusCode.ALREADY_EXISTS:
                self._abort(ref, caller)
                raise self._described("write a blob", error) from error
            self._label(content.digest, given, caller)
        except BaseException:
            call.cancel()
            self._abort(ref, caller)
            raise
        finally:
            requests.put(None)
        return content.digest, content.size

    def _leased(self, caller: Caller) -> Caller:
        """Make a lease that expires, for a caller without one."""
        lease = f"graphdriver-{secrets.token_hex(16)}"
        expires = (datetime.now(UTC) + _LEASED_FOR).strftime("%Y-%m-%dT%H:%M:%SZ")
        request = pb.CreateLeaseRequest(id=lease, labels={_EXPIRES: expires})
        self._ask(f"{_LEASES}Create", "create a lease", request, caller)
        return replace(caller, lease=lease)

    def _label(self, digest: str, labels: Mapping[str, str], caller: Caller) -> None:
        """Add labels to a blob that was there before."""
        self._ask(
            f"{_SERVICE}Update",
            "label a blob",
            pb.UpdateBlobRequest(
                info=pb.Blob(digest=digest, labels=labels),
                update_mask={"paths": [f"labels.{key}" for key in labels]},
            ),
            caller,
        )

    def _abort(self, ref: str, caller: Caller) -> None:
        """Remove an unfinished blob, if there is one."""
        with contextlib.suppress(GraphDriverError):
            self._ask(f"{_SERVICE}Abort", "abort a blob", pb.AbortRequest(ref=ref), caller)

    def _ask(self, method: str, asked: str, request: Any, caller: Caller) -> None:
        call: Callable[..., bytes] = self._channel.unary_unary(method)
        try:
            call(request.SerializeToString(), metadata=caller.metadata, timeout=60)
        except grpc.RpcError as error:
            raise self._described(asked, error) from error

    def _described(self, asked: str, error: grpc.RpcError) -> GraphDriverError:
        code, text = _code(error), str(getattr(error, "details", str)())
        if code is grpc.StatusCode.NOT_FOUND:
            return LayerNotFoundError(f"{asked}: {text}", hint="pull the image again")
        if code is grpc.StatusCode.CANCELLED:
            return BrokenStreamError(f"{asked}: the caller is gone")
        if code is grpc.StatusCode.UNAVAILABLE:
            return UnreachableError(
                f"{asked}: containerd at {self.address} does not answer: {text}",
                hint="name its socket with --containerd-socket",
            )
        return GraphDriverError(f"{asked}: {text}")


class BlobStream:
    """A blob, as a stream."""

    def __init__(self, store: ContentStore, digest: str, call: Any) -> None:
        self._store = store
        self._digest = digest
        self._call = call
        self._left = memoryview(b"")
        self._size = 0

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes, ``b""`` at the end.

        Raises:
            LayerNotFoundError: the store does not have the blob.
            UnreachableError: containerd does not answer.
        """
        while not self._left:
            try:
                message = next(self._call)
            except StopIteration:
                return b""
            except grpc.RpcError as error:
                raise self._store._described(f"read the blob {self._digest}", error) from error
            if message.data and message.offset != self._size:
                raise BadAnswerError(
                    f"read the blob {self._digest}: the content store has sent byte"
                    f" {message.offset} instead of {self._size}"
                )
            self._size += len(message.data)
            self._left = memoryview(message.data)
        piece = bytes(self._left[:n])
        self._left = self._left[n:]
        return piece

    def break_off(self) -> None:
        """End the call: the next `read` raises an error, and so does one that waits in any thread."""
        self._call.cancel()

    def close(self) -> None:
        """End the call."""
        self._call.cancel()


class _Joined:
    """Pieces as a stream, which reads as many as are asked for."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._buffer = bytearray()

    def read(self, n: int, /) -> bytes:
        while len(self._buffer) < n and (piece := next(self._pieces, None)) is not None:
            self._buffer += piece
        part = bytes(self._buffer[:n])
        del self._buffer[:n]
        return part


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    code: grpc.StatusCode = getattr(error, "code", lambda: grpc.StatusCode.UNKNOWN)()
    return code
