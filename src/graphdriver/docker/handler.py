"""The handler: makes the calls of the protocol to a driver, and answers them.

It works by the table of the calls (`graphdriver.docker.protocol`). It opens no socket and knows no HTTP
beyond method, path, query, body and status, so it is tested without a server.

The rules that hold for every engine (locks, marks, ApplyDiff once, the log) are those of
`graphdriver.serving.served_home`; those of a daemon and its Init are in `graphdriver.docker.session`.
The handler adds the rules of the protocol:

- A malformed request is refused before the driver sees it.
- A Diff's first piece is read before the status line is sent, so an early failure is a response. A call
  that changes the layer while its Diff is read breaks the Diff off (`graphdriver.docker.diffs`), unless
  the driver refuses the call with `InUseError`: then nothing has changed.
- A Get or a Create is undone if its response did not reach the caller: no Put or Remove would follow.
- A refused ApplyDiff is read to its end before the response: otherwise the daemon crashes
  (`_read_refused`).
- Every exception of a driver becomes a response with its text, completed by the call and the layer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import graphdriver
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
from graphdriver.serving.questions import QUESTIONS, answer
from graphdriver.serving.served_home import read_to_end
from graphdriver.steps import step

if TYPE_CHECKING:
    from graphdriver.docker.left_in_place import LeftInPlace

_QUESTIONS: Final = {f"{protocol.QUESTION_PATH}{name}": name for name in QUESTIONS}

STATUS: Final = {
    Kind.MALFORMED: 400,
    Kind.UNKNOWN_CALL: 404,
    Kind.WRONG_METHOD: 405,
    Kind.TOO_LARGE: 413,
}
"""The HTTP status of each kind of error that the caller caused; all others are the driver's, 500."""


@dataclasses.dataclass(slots=True)
class Answer:
    """The answer to a request.

    Attributes:
        status: the HTTP status.
        body: the whole body, or a stream, which the server reads to its end and closes. If reading it
            fails, the server breaks the connection off, so that the caller sees no shorter layer.
        undo: undoes the call; the server calls it if the caller never got the answer. Never raises.
        call: the call that is answered; None for a question.
    """

    status: int
    body: bytes | DiffStream
    undo: Callable[[], None] | None = None
    call: Call | None = None


class Handler:
    """The handler of the protocol's calls, which makes them to a driver.

    Args:
        driver: keeps the layers. One that is not a `Driver` is wrapped in a `NaiveDiffDriver`.
        state_dir: the directory that keeps Init for a restarted plugin; None: nothing is kept.
        options: options for the driver (``key=value``); the daemon's options take precedence.
            ``sync=none`` leaves layers unsynced: a power cut may lose them.
        in_place: the directory of a shared store; the tars of layers that it has, too, are left there,
            and read there from then on. ``""``: none.

    Attributes:
        driver: the driver, wrapped if it was not a `Driver`.
        served: the driver and the home that it serves.
    """

    def __init__(
        self,
        driver: ProtoDriver,
        *,
        state_dir: str | None = None,
        options: Sequence[str] = (),
        in_place: str = "",
    ) -> None:
        expect_driver(driver)
        self.driver: Driver = driver if isinstance(driver, Driver) else NaiveDiffDriver(driver)
        self._session = DaemonSession(self.driver, state_dir, tuple(options))
        self.served = self._session.served
        self._diffs = OpenDiffs()
        self._left: LeftInPlace | None = None
        if in_place:
            from graphdriver.docker.left_in_place import LeftInPlace  # slow, and rarely needed

            self._left = LeftInPlace(self.served, in_place)

    def resume(self) -> None:
        """Serve the home of the remembered Init again, if there is one."""
        self._session.resume()

    def close(self) -> None:
        """Release the home; layers and mounts stay as they are."""
        if self._left:
            self._left.close()
        self._session.close()

    def running(self) -> list[str]:
        """Return the calls that run, as errors name them: ``diff 4f0c…``."""
        return self.served.calls.running()

    def handle(self, request: Request) -> Answer:
        """Answer one call or question; errors of the caller and the driver are answers, too."""
        kind = BY_PATH.get(request.path)
        if kind is None and request.method == "GET" and request.path in _QUESTIONS:
            # No call: it waits for none, and is in no figures.
            return Answer(200, answer(self.served, _QUESTIONS[request.path]))
        call = self.served.calls.begin(kind.name if kind else "")
        try:
            if kind is None:
                raise UnknownCallError(
                    f"unknown call {request.path[:80]!r}", hint="calls look like /GraphDriver.Get"
                )
            return self._answer(kind, request, call)
        except (Exception, SystemExit) as error:
            return self._refuse(request, call, error)
        except BaseException:  # it ends the connection's thread, and the connection
            call.end()
            raise

    def _refuse(self, request: Request, call: Call, error: BaseException) -> Answer:
        """Make an answer of an error."""
        # Not in `handle`: the error's traceback holds the frame that catches it. If that frame held the
        # answer in turn, the request's buffers would stay until the next garbage collection.
        if call.name == protocol.APPLY_DIFF.name:
            _read_refused(request.body)
        answered = described(error).about(call.spoken, call.layer)
        status = STATUS.get(answered.kind, 500)
        call.failed(status, answered, error)
        return Answer(status, encode(new_error_response(answered)), call=call)

    def _answer(self, kind: ProtocolCall[Any, Any], request: Request, call: Call) -> Answer:
        if request.method != "POST":
            raise WrongMethodError(f"calls are made with POST, not {request.method}")
        if call.span is None:  # asked first, since a step costs a small call half a percent
            message = read_message(kind, request)
        else:
            with step("parse"):
                message = read_message(kind, request)
        parsed = _ParsedCall(kind, message, request)
        call.layer = getattr(parsed.message, "id", None)
        call.parent = getattr(parsed.message, "parent", None)
        call.peer = request.peer
        if not kind.needs_home:
            body = self._run(parsed)
        else:
            with self._session:
                if request.by_hand and kind.disturbs:
                    self._session.refuse_by_hand()
                if call.layer is None:
                    body = self._run(parsed)
                else:
                    with self.served.locks.held(call.layer, call.parent, exclusive=kind.exclusive):
                        if kind.needs_whole:
                            self.served.expect_finished(call.layer, call.parent or "")
                        body = self._run(parsed)
        if isinstance(body, DiffStream):
            body.call = call
            return Answer(200, body)
        call.done(200)
        undo = _UNDO.get(kind)
        undone = functools.partial(self._undo, undo, parsed, call) if undo else None
        return Answer(200, body, undone, call)

    def _run(self, parsed: _ParsedCall) -> bytes | DiffStream:
        """Make the call and write its response: `Driver.changes` may find changes meanwhile."""
        outcome = _RUN.get(parsed.kind, Handler._make)(self, parsed)
        if isinstance(outcome, DiffStream):
            return outcome
        # A driver's put may return something, which is no reason for its call to fail.
        return encode(Nothing() if parsed.kind.response is Nothing else outcome)

    def _undo(
        self, undo: Callable[[Handler, _ParsedCall], None], parsed: _ParsedCall, call: Call
    ) -> None:
        try:
            with (
                call.resumed(),
                self._session,
                self.served.locks.held(parsed.message.id, exclusive=True),
            ):
                undo(self, parsed)
        except (Exception, SystemExit) as error:
            call.undone(error)
        else:
            call.undone(None)

    # --- the calls --------------------------------------------------------------------------------

    def _make(self, parsed: _ParsedCall) -> Any:
        """Make the call to the driver; most calls need no more."""
        return parsed.kind.make(self.driver, parsed.message, parsed.request.body)

    def _init(self, parsed: _ParsedCall) -> None:
        request = parsed.request
        self._session.init(parsed.message, request.peer, by_hand=request.by_hand)

    def _status(self, parsed: _ParsedCall) -> StatusResponse:
        sync = ("Sync", "layer" if self.served.syncs else "none")
        version = ("Plugin Version", graphdriver.__version__)
        return StatusResponse((*self._make(parsed).status, sync, version))

    def _cleanup(self, parsed: _ParsedCall) -> None:
        self._make(parsed)
        self._session.clean_up(parsed.request.peer)

    def _create(self, parsed: _ParsedCall) -> None:
        with self.served.creating(parsed.message.id, parsed.message.parent):
            self._make(parsed)

    def _undo_create(self, parsed: _ParsedCall) -> None:
        if parsed.message.id in self.served.created:  # otherwise a later call has used the layer
            self._remove(parsed)

    def _remove(self, parsed: _ParsedCall) -> None:
        id = parsed.message.id
        with self._diffs.paused(id, "the layer was removed while it was read"):
            self.served.remove(id)
        if self._left:
            self._left.removed(id)

    def _get(self, parsed: _ParsedCall) -> Any:
        request, message = parsed.request, parsed.message
        got = parsed.kind.make(self.driver, message, request.body)
        self.served.layers.got(message.id, request.peer)
        return got

    def _put(self, parsed: _ParsedCall) -> None:
        self._make(parsed)
        self.served.layers.put(parsed.message.id)

    def _undo_get(self, parsed: _ParsedCall) -> None:
        self.driver.put(parsed.message.id)
        self.served.layers.put(parsed.message.id)

    def _diff(self, parsed: _ParsedCall) -> DiffStream:
        return self._diffs.begin(parsed.message.id, self._make(parsed))

    def _apply_diff(self, parsed: _ParsedCall) -> Any:
        id, parent = parsed.message.id, parsed.message.parent
        self.served.expect_fillable(id, parent)
        with (
            self._diffs.paused(id, "the layer was applied to while it was read") as break_off,
            self.served.filling(id, parsed.request.body, break_off) as archive,
        ):
            applied: Any = parsed.kind.make(self.driver, parsed.message, archive)
        self.served.layers.applied(id, applied.size)
        if self._left:
            self._left.applied(id)
        return applied


@dataclasses.dataclass(slots=True)  # not frozen: that takes three times as long to make
class _ParsedCall:
    """A request and its message, an object of the class ``kind.request``."""

    kind: ProtocolCall[Any, Any]
    message: Any
    request: Request


_RUN: Final[Mapping[ProtocolCall[Any, Any], Callable[[Handler, _ParsedCall], Any]]] = {
    protocol.INIT: Handler._init,
    protocol.STATUS: Handler._status,
    protocol.CREATE: Handler._create,
    protocol.CREATE_READ_WRITE: Handler._create,
    protocol.GET: Handler._get,
    protocol.PUT: Handler._put,
    protocol.REMOVE: Handler._remove,
    protocol.DIFF: Handler._diff,
    protocol.APPLY_DIFF: Handler._apply_diff,
    protocol.CLEANUP: Handler._cleanup,
}
"""The calls that need more than `Handler._make`."""

_UNDO: Final[Mapping[ProtocolCall[Any, Any], Callable[[Handler, _ParsedCall], None]]] = {
    protocol.CREATE: Handler._undo_create,
    protocol.CREATE_READ_WRITE: Handler._undo_create,
    protocol.GET: Handler._undo_get,
}
"""How to undo a call if its caller never got the answer: no Remove or Put would follow."""


def expect_driver(driver: object) -> None:
    """Check that an object is a driver, and not the class of one.

    Raises:
        TypeError: it is not a driver.
    """
    if not isinstance(driver, ProtoDriver):
        raise TypeError(
            f"a driver must be an object of a class that extends ProtoDriver, not {driver!r}"
        )


def _read_refused(body: ReadStream) -> None:
    """Read the tar of a refused ApplyDiff to its end."""
    # An early answer crashes Docker 20.10.24 ("index out of range", in compress/flate): it closes the
    # record of the layer's headers while another of its threads still writes to it.
    with contextlib.suppress(GraphDriverError, OSError):
        read_to_end(body)
