"""The handler: a call of the protocol becomes a call of the driver, and its outcome an answer.

It is a table, path → request type → what to do → response type. It opens no socket and knows no
HTTP beyond method, path, query, body and status, so it is tested without a server.

What holds for every driver is done here, once:

- A request that is not what the protocol says is refused before the driver sees it.
- One call at a time for each layer, and none upon a layer that is being removed or filled
  (`graphdriver.locks`); Init alone (`graphdriver.serving.init_lock`).
- A layer whose ApplyDiff is not known to be whole is refused to everybody but Remove; ApplyDiff is
  taken once, and only by the process that made the layer (`graphdriver.serving.home`). A daemon sends
  a call whose connection broke again, and what comes then can be the mere tail of a tar.
- A Diff's first piece is there before the status line is, so what fails early is an answer; what is
  done to its layer while it is read breaks it off (`graphdriver.docker.diffs`). A call that the driver
  refuses with `InUseError` leaves Diffs, marks and layer as they were.
- A Get or a Create whose answer never reached the caller is undone: nobody would Put or Remove it.
- A layer that is refused is read to its end first, lest the daemon break (`_take_in`).
- Whatever a driver raises is an answer with its text, completed by call and layer.
- Each call is logged, with layer, duration and outcome (`graphdriver.serving.call_log`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from graphdriver import returned
from graphdriver.docker import messages
from graphdriver.docker.codec import encode
from graphdriver.docker.diffs import DiffStream, OpenDiffs
from graphdriver.docker.request_messages import Request, json_message, query_message
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
        self._served = self._session.served
        self._diffs = OpenDiffs()

    def resume(self) -> None:
        """Take up the home that a daemon named before this process began, if one did."""
        self._session.resume()

    def close(self) -> None:
        """Let go of the home. The layers and their mounts stay as they are."""
        self._session.close()

    def running(self) -> list[str]:
        """Return the calls that run, as errors name them: ``diff 4f0c…``."""
        return self._served.calls.running()

    def handle(self, request: Request) -> Answer:
        """Answer one call; never raises for what the caller or the driver did wrong."""
        call = self._served.calls.begin(
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
        return Answer(status, encode(messages.new_error_response(told)))

    def _answer(self, request: Request, call: Call) -> Answer:
        row = CALLS.get(request.path)
        if row is None:
            call.name = ""
            raise UnknownCallError(
                f"there is no call {request.path[:80]!r}", hint="calls look like /GraphDriver.Get"
            )
        if request.method != "POST":
            raise WrongMethodError(f"calls are made with POST, not {request.method}")
        message = row.read(request)
        call.layer = getattr(message, "id", None)
        call.parent = getattr(message, "parent", None)
        if row.outside:
            body = self._run(row, message, request)
        else:
            with self._session:
                if request.by_hand and row.disturbs:
                    self._session.refuse_by_hand()
                if call.layer is None:
                    body = self._run(row, message, request)
                else:
                    with self._served.locks.held(call.layer, call.parent, alone=row.alone):
                        body = self._run(row, message, request)
        if isinstance(body, DiffStream):
            body.call = call
            return Answer(200, body)
        call.done(200)
        undo = functools.partial(self._undo, row.undo, message, call) if row.undo else None
        return Answer(200, body, undo)

    def _run(self, row: _Row, message: Any, request: Request) -> bytes | DiffStream:
        """Make the call and write its answer: a driver's changes are found while they are written."""
        response = row.run(self, message, request)
        return response if isinstance(response, DiffStream) else encode(response)

    def _undo(self, undo: Callable[[Handler, Any], None], message: Any, call: Call) -> None:
        try:
            with self._session, self._served.locks.held(message.id, alone=True):
                undo(self, message)
        except Exception as error:
            call.undone(error)
        else:
            call.undone(None)

    # --- the calls, one by one --------------------------------------------------------------------

    def _activate(self, _message: Any, _request: Request) -> messages.ActivateResponse:
        return messages.ActivateResponse(("GraphDriver",))

    def _init(self, message: messages.InitRequest, request: Request) -> messages.InitResponse:
        self._session.init(message, request.peer, by_hand=request.by_hand)
        return messages.InitResponse()

    def _capabilities(self, _message: Any, _request: Request) -> messages.CapabilitiesResponse:
        return messages.CapabilitiesResponse(returned.capabilities(self.driver.capabilities()))

    def _status(self, _message: Any, _request: Request) -> messages.StatusResponse:
        sync = ("Sync", "layer" if self._served.syncs else "none")
        return messages.StatusResponse((*returned.pairs(self.driver.status()), sync))

    def _cleanup(self, _message: Any, request: Request) -> messages.CleanupResponse:
        self.driver.cleanup()
        self._session.clean_up(request.peer)
        return messages.CleanupResponse()

    def _create(
        self, message: messages.CreateRequest, _request: Request
    ) -> messages.CreateResponse:
        return self._make(self.driver.create, message)

    def _create_read_write(
        self, message: messages.CreateRequest, _request: Request
    ) -> messages.CreateResponse:
        return self._make(self.driver.create_read_write, message)

    def _make(
        self, make: Callable[..., None], message: messages.CreateRequest
    ) -> messages.CreateResponse:
        self._served.create(
            make, message.id, message.parent, message.mount_label, message.storage_opt
        )
        return messages.CreateResponse()

    def _undo_create(self, message: messages.CreateRequest) -> None:
        if message.id in self._served.created:  # else somebody knows of it after all
            self._end(message.id)

    def _remove(
        self, message: messages.RemoveRequest, _request: Request
    ) -> messages.RemoveResponse:
        self._end(message.id)
        return messages.RemoveResponse()

    def _end(self, id: str) -> None:
        with self._diffs.paused(id, "the layer was removed while it was read"):
            self._served.remove(id)

    def _get(self, message: messages.GetRequest, _request: Request) -> messages.GetResponse:
        self._served.expect_finished(message.id)
        return messages.GetResponse(
            returned.directory(self.driver.get(message.id, message.mount_label))
        )

    def _undo_get(self, message: messages.GetRequest) -> None:
        self.driver.put(message.id)

    def _put(self, message: messages.PutRequest, _request: Request) -> messages.PutResponse:
        self.driver.put(message.id)
        return messages.PutResponse()

    def _exists(
        self, message: messages.ExistsRequest, _request: Request
    ) -> messages.ExistsResponse:
        return messages.ExistsResponse(returned.truth(self.driver.exists(message.id)))

    def _get_metadata(
        self, message: messages.GetMetadataRequest, _request: Request
    ) -> messages.GetMetadataResponse:
        metadata = returned.text_map(self.driver.get_metadata(message.id))
        return messages.GetMetadataResponse(metadata)

    def _changes(
        self, message: messages.ChangesRequest, _request: Request
    ) -> messages.ChangesResponse:
        self._served.expect_finished(message.id, message.parent)
        found = returned.changes(self.driver.changes(message.id, message.parent))
        return messages.ChangesResponse(found)

    def _diff_size(
        self, message: messages.DiffSizeRequest, _request: Request
    ) -> messages.DiffSizeResponse:
        self._served.expect_finished(message.id, message.parent)
        size = self.driver.diff_size(message.id, message.parent)
        return messages.DiffSizeResponse(returned.size("diff_size", size))

    def _diff(self, message: messages.DiffRequest, _request: Request) -> DiffStream:
        self._served.expect_finished(message.id, message.parent)
        stream = returned.stream(self.driver.diff(message.id, message.parent))
        return self._diffs.begin(message.id, stream)

    def _apply_diff(
        self, message: messages.ApplyDiffRequest, request: Request
    ) -> messages.ApplyDiffResponse:
        self._served.expect_fillable(message.id, message.parent)
        with (
            self._diffs.paused(
                message.id, "the layer was applied to while it was read"
            ) as break_off,
            self._served.filling(message.id, request.body, break_off) as archive,
        ):
            size = returned.size(
                "apply_diff", self.driver.apply_diff(message.id, message.parent, archive)
            )
        return messages.ApplyDiffResponse(size)


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


# --- the table ------------------------------------------------------------------------------------


class _Row(NamedTuple):
    read: Callable[[Request], Any]
    run: Callable[[Handler, Any, Request], Any]
    undo: Callable[[Handler, Any], None] | None = None
    """Takes it back if its caller never got the answer."""
    alone: bool = False
    """Nobody may stand on the layer meanwhile."""
    outside: bool = False
    """It needs no home."""
    disturbs: bool = False
    """It takes something from a daemon that lives, if it is made by hand."""


CALLS: Final = {
    "/Plugin.Activate": _Row(
        json_message(messages.StatusRequest, ignored=True), Handler._activate, outside=True
    ),
    "/GraphDriver.Init": _Row(json_message(messages.InitRequest), Handler._init, outside=True),
    "/GraphDriver.Capabilities": _Row(
        json_message(messages.CapabilitiesRequest, ignored=True), Handler._capabilities
    ),
    "/GraphDriver.Status": _Row(
        json_message(messages.StatusRequest, ignored=True), Handler._status
    ),
    "/GraphDriver.Create": _Row(
        json_message(messages.CreateRequest), Handler._create, Handler._undo_create, disturbs=True
    ),
    "/GraphDriver.CreateReadWrite": _Row(
        json_message(messages.CreateRequest),
        Handler._create_read_write,
        Handler._undo_create,
        disturbs=True,
    ),
    "/GraphDriver.Get": _Row(json_message(messages.GetRequest), Handler._get, Handler._undo_get),
    "/GraphDriver.Put": _Row(json_message(messages.PutRequest), Handler._put, disturbs=True),
    "/GraphDriver.Remove": _Row(
        json_message(messages.RemoveRequest), Handler._remove, alone=True, disturbs=True
    ),
    "/GraphDriver.Exists": _Row(json_message(messages.ExistsRequest), Handler._exists),
    "/GraphDriver.GetMetadata": _Row(
        json_message(messages.GetMetadataRequest), Handler._get_metadata
    ),
    "/GraphDriver.Changes": _Row(json_message(messages.ChangesRequest), Handler._changes),
    "/GraphDriver.DiffSize": _Row(json_message(messages.DiffSizeRequest), Handler._diff_size),
    "/GraphDriver.Diff": _Row(json_message(messages.DiffRequest), Handler._diff),
    "/GraphDriver.ApplyDiff": _Row(query_message, Handler._apply_diff, alone=True, disturbs=True),
    "/GraphDriver.Cleanup": _Row(
        json_message(messages.CleanupRequest, ignored=True), Handler._cleanup, disturbs=True
    ),
}
"""All calls there are, by path."""
