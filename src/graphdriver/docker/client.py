"""The client: uses a running plugin as a `Driver`.

It finds the plugin and calls it as a daemon does, so it works with any graph driver plugin. Many
threads may call at once: each call has a connection of its own, and idle connections are used again. A
refusal is a `RemoteError` with the plugin's text. Answers are checked (`graphdriver.docker.answers`).
"""

# ruff: noqa: D102 - graphdriver.driver documents the calls
from __future__ import annotations

import contextlib
import http.client
import select
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Self, TypeVar

from graphdriver.docker import protocol
from graphdriver.docker.address.discovery import Address, address_of
from graphdriver.docker.address.tls import client_side
from graphdriver.docker.answers import AnswerBody, read_answer, read_json, refusal_of
from graphdriver.docker.codec import Message, encode
from graphdriver.docker.http.client_connection import ClientConnection, set_deadline, tls_connection
from graphdriver.docker.http.requests import BY_HAND
from graphdriver.docker.messages import (
    ChangesRequest,
    CreateRequest,
    DiffRequest,
    DiffSizeRequest,
    ExistsRequest,
    GetMetadataRequest,
    GetRequest,
    InitRequest,
    Nothing,
    PutRequest,
    RemoveRequest,
)
from graphdriver.docker.protocol import QUESTION_PATH, ProtocolCall
from graphdriver.driver import Capabilities, Change, Driver, IDMap, ReadStream
from graphdriver.errors import RemoteError, UnreachableError

_ACCEPT = "application/vnd.docker.plugins.v1.2+json"
_PIECE = 32 << 10  # what daemons send at a time
_NO_OPTIONS: Final[Mapping[str, str]] = MappingProxyType({})

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)


class Client(Driver):
    """A running plugin; a context manager that closes its connections.

    Args:
        plugin: its name, found as a daemon finds it; or its address: ``/path.sock``,
            ``unix:///path.sock``, ``tcp://host:port``, or an `Address`, which may have certificates
            for TLS.
        timeout: how long an answer may take, or each piece of a Diff, in seconds; None: no limit.
        by_hand: mark the calls as a person's: a plugin of this project refuses those that would
            disturb a running daemon.

    Raises:
        UnreachableError: no plugin has this name.
        MalformedRequestError: it is neither a name nor an address.
    """

    def __init__(
        self, plugin: str | Address, timeout: float | None = None, *, by_hand: bool = False
    ) -> None:
        self.address = plugin if isinstance(plugin, Address) else address_of(plugin)
        self._timeout = timeout
        self._by_hand = by_hand
        self._idle: list[http.client.HTTPConnection] = []
        self._guard = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        with self._guard:
            while self._idle:
                self._idle.pop().close()

    # --- the calls --------------------------------------------------------------------------------

    def activate(self) -> Sequence[str]:
        """Return what the plugin implements; a graph driver answers ``GraphDriver``."""
        return self._call(protocol.ACTIVATE, Nothing()).implements

    def init(
        self,
        home: str,
        options: Sequence[str] = (),
        uid_maps: Sequence[IDMap] = (),
        gid_maps: Sequence[IDMap] = (),
    ) -> None:
        self._call(protocol.INIT, InitRequest(home, options, uid_maps, gid_maps))

    def create(
        self,
        id: str,
        parent: str = "",
        mount_label: str = "",
        storage_opt: Mapping[str, str] = _NO_OPTIONS,
    ) -> None:
        self._call(protocol.CREATE, CreateRequest(id, parent, mount_label, storage_opt))

    def create_read_write(
        self,
        id: str,
        parent: str = "",
        mount_label: str = "",
        storage_opt: Mapping[str, str] = _NO_OPTIONS,
    ) -> None:
        self._call(protocol.CREATE_READ_WRITE, CreateRequest(id, parent, mount_label, storage_opt))

    def remove(self, id: str) -> None:
        self._call(protocol.REMOVE, RemoveRequest(id))

    def get(self, id: str, mount_label: str = "") -> str:
        return self._call(protocol.GET, GetRequest(id, mount_label)).dir

    def put(self, id: str) -> None:
        self._call(protocol.PUT, PutRequest(id))

    def exists(self, id: str) -> bool:
        return self._call(protocol.EXISTS, ExistsRequest(id)).exists

    def status(self) -> Sequence[tuple[str, str]]:
        return self._call(protocol.STATUS, Nothing()).status

    def get_metadata(self, id: str) -> Mapping[str, str]:
        return self._call(protocol.GET_METADATA, GetMetadataRequest(id)).metadata

    def cleanup(self) -> None:
        self._call(protocol.CLEANUP, Nothing())

    def diff(self, id: str, parent: str = "") -> RemoteDiff:
        call, body = protocol.DIFF, encode(DiffRequest(id, parent))
        held = contextlib.ExitStack()
        answer, connected = held.enter_context(self._answered("POST", call.path, body, call.name))
        return RemoteDiff(answer, held, lambda: set_deadline(connected, self._timeout))

    def changes(self, id: str, parent: str = "") -> Sequence[Change]:
        return tuple(self._call(protocol.CHANGES, ChangesRequest(id, parent)).changes)

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        call = protocol.APPLY_DIFF
        target = f"{call.path}?{urllib.parse.urlencode({'id': id, 'parent': parent})}"
        with self._answered("POST", target, archive, call.name) as (answer, _):
            return read_answer(call, answer).size

    def diff_size(self, id: str, parent: str = "") -> int:
        return self._call(protocol.DIFF_SIZE, DiffSizeRequest(id, parent)).size

    def capabilities(self) -> Capabilities:
        try:
            return self._call(protocol.CAPABILITIES, Nothing()).capabilities
        except RemoteError as error:
            if error.status == 404:  # a plugin may leave this call out, and no other
                return Capabilities()
            raise

    # --- questions --------------------------------------------------------------------------------

    def ask(self, question: str) -> object:
        """Return the answer to a question: ``status``, ``layers`` or ``calls``.

        Only a plugin of this project answers; docs/operations.md describes the answers. It is not a
        call: a plugin answers while its calls are stuck, and before Init.

        Raises:
            RemoteError: the plugin does not know the question.
            UnreachableError: no process listens there, or no answer came.
            BadAnswerError: the answer is not JSON, or too large.
        """
        with self._answered("GET", QUESTION_PATH + question, b"", question) as (answer, _):
            return read_json(answer)

    # --- connections ------------------------------------------------------------------------------

    def _call(self, call: ProtocolCall[Q, R], request: Q) -> R:
        # As daemons do it: Activate has no body, and all other calls have one, if only {}.
        body = b"" if call is protocol.ACTIVATE else encode(request)
        with self._answered("POST", call.path, body, call.name) as (answer, _):
            return read_answer(call, answer)

    @contextlib.contextmanager
    def _answered(
        self, method: str, target: str, body: bytes | ReadStream, name: str
    ) -> Iterator[tuple[http.client.HTTPResponse, object]]:
        """Send a request, and provide its successful answer and the socket for a ``with`` block.

        The connection is used again if the block reads the answer to its end.

        Args:
            method: the HTTP method.
            target: the path of the URL, with the query.
            body: the body of the request.
            name: the call or question, for errors.

        Raises:
            RemoteError: the plugin refused.
            UnreachableError: no process listens there, or no answer came.
        """
        connection = self._connection()
        reusable = False
        try:
            try:
                answer, connected = self._exchange(connection, method, target, body)
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                raise UnreachableError(
                    f"the plugin at {self.address} does not answer: {reason}",
                    hint="check that it runs, and look into its log",
                ) from error
            if answer.status != 200:
                raise refusal_of(name, answer)
            yield answer, connected
            reusable = answer.isclosed() and not answer.will_close
        finally:
            if reusable:
                with self._guard:
                    self._idle.append(connection)
            else:
                connection.close()

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        body: bytes | ReadStream,
    ) -> tuple[http.client.HTTPResponse, object]:
        set_deadline(connection.sock, self._timeout)
        connection.putrequest(method, target, skip_accept_encoding=True)
        connection.putheader("Accept", _ACCEPT)
        if self._by_hand:
            connection.putheader(BY_HAND, "1")
        if isinstance(body, bytes):
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
        else:
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            # A plugin that refuses early closes its side; its answer has the reason.
            with contextlib.suppress(ConnectionError):
                while piece := body.read(_PIECE):
                    connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                connection.send(b"0\r\n\r\n")
        connected = connection.sock  # `getresponse` sets it to None if no other call can follow
        set_deadline(connected, self._timeout)
        return connection.getresponse(), connected

    def _connection(self) -> http.client.HTTPConnection:
        with self._guard:
            while self._idle:
                connection = self._idle.pop()
                if not select.select([connection.sock], [], [], 0)[0]:
                    return connection
                connection.close()  # readable without a call: the plugin has closed it
        address = self.address
        if address.path:
            return ClientConnection(address.path, "plugin.moby.localhost", None, self._timeout)
        if address.tls is None:
            return ClientConnection("", address.host, address.port, self._timeout)
        return tls_connection(address.host, address.port, self._timeout, client_side(address.tls))


class RemoteDiff:
    """The tar of a Diff: a stream, and a context manager that closes it."""

    def __init__(
        self,
        answer: http.client.HTTPResponse,
        held: contextlib.ExitStack,
        set_deadline: Callable[[], None],
    ) -> None:
        self._body = AnswerBody(answer)
        self._held = held
        self._set_deadline = set_deadline

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes, ``b""`` at the end.

        Raises:
            BrokenStreamError: it broke off, or these bytes took longer than the client's timeout.
        """
        self._set_deadline()
        return self._body.read(n)

    def close(self) -> None:
        """Release the connection."""
        self._held.close()
