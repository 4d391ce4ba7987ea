"""The handler: a call of the protocol becomes a call of the driver, and its outcome an answer.

It works by the table of the calls (`graphdriver.docker.protocol`). It opens no socket and knows no HTTP
beyond method, path, query, body and status, so it is tested without a server.

The rules that hold for every engine (locks, marks, ApplyDiff once, the log) are those of
`graphdriver.serving.served_home`; those of a daemon and its Init are in `graphdriver.docker.session`.
The handler adds the rules of the protocol:

- A malformed request is refused before the driver sees it.
- A Diff's first piece is read before the status line is sent, so an early failure is a response. A call
  that changes the layer while its Diff is read breaks the Diff off (`graphdriver.docker.diffs`), unless
  the driver refuses the call with `InUseError`: then nothing has changed.
- A Get or a Create is undone if its response did not reach the caller: nobody would Put or Remove it.
- A refused ApplyDiff is read to its end before the response: otherwise the daemon breaks (`_take_in`).
- Whatever a driver raises is a response with its text, completed by call and layer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from graphdriver.docker import protocol
from graphdriver.docker.codec import encode
from graphdriver.docker.diffs import DiffStream, OpenDiffs
from graphdriver.docker.messages import Nothing, StatusResponse, new_error_response
from graphdriver.docker.protocol import BY_PATH, ProtocolCall
from graphdriver.docker.request_messages import Request, read_message
from graphdriver.docker.session import DaemonSession
from graphdriver.driver import Driver, ProtoDriver, ReadStream
from graphdriver.errors import (
    GraphDriverError,
    Kind,
    UnknownCallError,
    WrongMethodError,
)
from graphdriver.naive import NaiveDiffDriver
from graphdriver.serving.call_log import Call, described
from graphdriver.serving.served_home import read_to_end

STATUS: Final = {
    Kind.MALFORMED: 400,
    Kind.UNKNOWN_CALL: 404,
    Kind.WRONG_METHOD: 405,
    Kind.TOO_LARGE: 413,
}
"""What a kind of error means in HTTP; every other one is the driver's, 500."""


@dataclasses.dataclass(slots=True)
class Answer:
    """What to send back.

    ``body`` is the whole body, or a stream to be read to its end and closed; one that raises must
    break the connection off. ``undo``, which never raises, is called if the caller never got it.
    """

    status: int
    body: bytes | DiffStream
    undo: Callable[[], None] | None = None


class Handler:
    """Answers the protocol's calls with a driver.

    Args:
        driver: what keeps the layers. One that is not a `Driver` is completed by the naive differ.
        state_dir: where Init is remembered for a restarted plugin; without one it is not.
        options: options for the driver (``key=value``), put before those that the daemon says.
            ``sync=none``, from either, leaves layers unsynced: a power cut may lose them.

    Attributes:
        driver: the driver, completed if it was not a `Driver`.
        served: the driver and the home that it serves.
    """

    def __init__(
        self,
        driver: ProtoDriver,
        *,
        state_dir: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        expect_driver(driver)
        self.driver: Driver = driver if isinstance(driver, Driver) else NaiveDiffDriver(driver)
        self._session = DaemonSession(self.driver, state_dir, tuple(options))
        self.served = self._session.served
        self._diffs = OpenDiffs()

    def resume(self) -> None:
        """Take up the home that a daemon named before this process began, if one did."""
        self._session.resume()

    def close(self) -> None:
        """Let go of the home. The layers and their mounts stay as they are."""
        self._session.close()

    def running(self) -> list[str]:
        """Return the calls that run, as errors name them: ``diff 4f0c…``."""
        return self.served.calls.running()

    def handle(self, request: Request) -> Answer:
        """Answer one call; never raises for what the caller or the driver did wrong."""
        call = self.served.calls.begin(
            request.path.removeprefix("/GraphDriver.").removeprefix("/Plugin.")
        )
        try:
            return self._answer(request, call)
        except (Exception, SystemExit) as error:
            return self._refuse(request, call, error)

    def _refuse(self, request: Request, call: Call, error: BaseException) -> Answer:
        """Put an error into an answer.

        Not where it is caught: the error holds that frame, which would hold what is made of the error,
        and with it the request and its buffers, until a garbage collection finds them.
        """
        if call.name == "ApplyDiff":
            _take_in(request.body)
        told = described(error).about(call.spoken, call.layer)
        status = STATUS.get(told.kind, 500)
        call.failed(status, told, error)
        return Answer(status, encode(new_error_response(told)))

    def _answer(self, request: Request, call: Call) -> Answer:
        kind = BY_PATH.get(request.path)
        if kind is None:
            call.name = ""
            raise UnknownCallError(
                f"there is no call {request.path[:80]!r}", hint="calls look like /GraphDriver.Get"
            )
        if request.method != "POST":
            raise WrongMethodError(f"calls are made with POST, not {request.method}")
        asked = _Asked(kind, read_message(kind, request), request)
        call.layer = getattr(asked.message, "id", None)
        call.parent = getattr(asked.message, "parent", None)
        if not kind.needs_home:
            body = self._run(asked)
        else:
            with self._session:
                if request.by_hand and kind.disturbs:
                    self._session.refuse_by_hand()
                if call.layer is None:
                    body = self._run(asked)
                else:
                    with self.served.locks.held(call.layer, call.parent, exclusive=kind.exclusive):
                        if kind.needs_whole:
                            self.served.expect_finished(call.layer, call.parent or "")
                        body = self._run(asked)
        if isinstance(body, DiffStream):
            body.call = call
            return Answer(200, body)
        call.done(200)
        undo = _UNDO.get(kind)
        return Answer(200, body, functools.partial(self._undo, undo, asked, call) if undo else None)

    def _run(self, asked: _Asked) -> bytes | DiffStream:
        """Make the call and write its answer: a driver's changes are found while they are written."""
        outcome = _RUN.get(asked.kind, Handler._make)(self, asked)
        return outcome if isinstance(outcome, DiffStream) else encode(outcome or Nothing())

    def _undo(self, undo: Callable[[Handler, _Asked], None], asked: _Asked, call: Call) -> None:
        try:
            with self._session, self.served.locks.held(asked.message.id, exclusive=True):
                undo(self, asked)
        except Exception as error:
            call.undone(error)
        else:
            call.undone(None)

    # --- the calls --------------------------------------------------------------------------------

    def _make(self, asked: _Asked) -> Any:
        """Make the call to the driver; for most calls this is all."""
        return asked.kind.make(self.driver, asked.message, asked.request.body)

    def _init(self, asked: _Asked) -> None:
        request = asked.request
        self._session.init(asked.message, request.peer, by_hand=request.by_hand)

    def _status(self, asked: _Asked) -> StatusResponse:
        sync = ("Sync", "layer" if self.served.syncs else "none")
        return StatusResponse((*self._make(asked).status, sync))

    def _cleanup(self, asked: _Asked) -> None:
        self._make(asked)
        self._session.clean_up(asked.request.peer)

    def _create(self, asked: _Asked) -> None:
        with self.served.creating(asked.message.id, asked.message.parent):
            self._make(asked)

    def _undo_create(self, asked: _Asked) -> None:
        if asked.message.id in self.served.created:  # else a later call has used it
            self._remove(asked)

    def _remove(self, asked: _Asked) -> None:
        id = asked.message.id
        with self._diffs.paused(id, "the layer was removed while it was read"):
            self.served.remove(id)

    def _undo_get(self, asked: _Asked) -> None:
        self.driver.put(asked.message.id)

    def _diff(self, asked: _Asked) -> DiffStream:
        return self._diffs.begin(asked.message.id, self._make(asked))

    def _apply_diff(self, asked: _Asked) -> Any:
        id, parent = asked.message.id, asked.message.parent
        self.served.expect_fillable(id, parent)
        with (
            self._diffs.paused(id, "the layer was applied to while it was read") as break_off,
            self.served.filling(id, asked.request.body, break_off) as archive,
        ):
            return asked.kind.make(self.driver, asked.message, archive)


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """A call that was understood."""

    kind: ProtocolCall[Any, Any]
    message: Any
    """Of the class ``kind.request``."""
    request: Request


_RUN: Final[Mapping[ProtocolCall[Any, Any], Callable[[Handler, _Asked], Any]]] = {
    protocol.INIT: Handler._init,
    protocol.STATUS: Handler._status,
    protocol.CREATE: Handler._create,
    protocol.CREATE_READ_WRITE: Handler._create,
    protocol.REMOVE: Handler._remove,
    protocol.DIFF: Handler._diff,
    protocol.APPLY_DIFF: Handler._apply_diff,
    protocol.CLEANUP: Handler._cleanup,
}
"""The calls that need more than to be made to the driver."""

_UNDO: Final[Mapping[ProtocolCall[Any, Any], Callable[[Handler, _Asked], None]]] = {
    protocol.CREATE: Handler._undo_create,
    protocol.CREATE_READ_WRITE: Handler._undo_create,
    protocol.GET: Handler._undo_get,
}
"""How the calls are taken back whose answer the caller never got: nobody would Remove or Put."""


def expect_driver(driver: object) -> None:
    """See that something is a driver, and not its class, before it is served.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(driver, ProtoDriver):
        raise TypeError(
            f"a driver is an object of a class that extends ProtoDriver, not {driver!r}"
        )


def _take_in(body: ReadStream) -> None:
    """Read a layer that is refused to its end, before the refusal is sent.

    Docker 20.10.24 crashes otherwise ("index out of range" or the like, in compress/flate): an
    answer that comes early makes it close the record of the layer's headers while another of its
    threads still writes to it.
    """
    with contextlib.suppress(GraphDriverError, OSError):
        read_to_end(body)
