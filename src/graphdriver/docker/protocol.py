"""The table of the calls of the protocol, for the handler, the client and ``graphdriver call``.

A row has a call's name, the messages of its request and its response, the call that it makes to a
driver, and the rules for the layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from graphdriver import returned
from graphdriver.docker.codec import Message
from graphdriver.docker.messages import (
    ActivateResponse,
    ApplyDiffRequest,
    ApplyDiffResponse,
    CapabilitiesResponse,
    ChangesRequest,
    ChangesResponse,
    CreateRequest,
    DiffRequest,
    DiffSizeRequest,
    DiffSizeResponse,
    ExistsRequest,
    ExistsResponse,
    GetMetadataRequest,
    GetMetadataResponse,
    GetRequest,
    GetResponse,
    InitRequest,
    Nothing,
    PutRequest,
    RemoveRequest,
    StatusResponse,
)
from graphdriver.driver import ClosableStream, Driver, ReadStream

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ProtocolCall(Generic[Q, R]):
    """One call of the protocol.

    Attributes:
        name: Docker's name for it, such as ``Get``.
        request: the message of the request: its body, or for an ApplyDiff, where the body is the tar,
            its query. With `Nothing` the body is ignored.
        response: the message of the response. The response of a Diff is the tar itself.
        make: makes the call to a driver, and checks the returned value; None means `Nothing`. The
            stream is the request's body; only ApplyDiff reads it.
        needs_home: refused before Init.
        needs_whole: refused if the layer, or its parent in the request, is incomplete.
        exclusive: no other call may use the layer or read it as a parent meanwhile.
        disturbs: a person's call could unmount a running daemon's containers, or remove its layers.
    """

    name: str
    request: type[Q]
    response: type[R]
    make: Callable[[Driver, Q, ReadStream], R | ClosableStream | None]
    needs_home: bool = True
    needs_whole: bool = False
    exclusive: bool = False
    disturbs: bool = False

    @property
    def path(self) -> str:
        """The path of its URL."""
        return f"/{'Plugin' if self is ACTIVATE else 'GraphDriver'}.{self.name}"


ACTIVATE: Final = ProtocolCall(
    "Activate",
    Nothing,
    ActivateResponse,
    lambda driver, *_: ActivateResponse(("GraphDriver",)),
    needs_home=False,
)
INIT: Final = ProtocolCall(
    "Init",
    InitRequest,
    Nothing,
    lambda driver, request, _: driver.init(
        request.home, request.options, request.uid_maps, request.gid_maps
    ),
    needs_home=False,
    disturbs=True,
)
CAPABILITIES: Final = ProtocolCall(
    "Capabilities",
    Nothing,
    CapabilitiesResponse,
    lambda driver, *_: CapabilitiesResponse(returned.capabilities(driver.capabilities())),
)
STATUS: Final = ProtocolCall(
    "Status",
    Nothing,
    StatusResponse,
    lambda driver, *_: StatusResponse(returned.pairs(driver.status())),
)
CREATE: Final = ProtocolCall(
    "Create",
    CreateRequest,
    Nothing,
    lambda driver, request, _: driver.create(
        request.id, request.parent, request.mount_label, request.storage_opt
    ),
    disturbs=True,
)
CREATE_READ_WRITE: Final = ProtocolCall(
    "CreateReadWrite",
    CreateRequest,
    Nothing,
    lambda driver, request, _: driver.create_read_write(
        request.id, request.parent, request.mount_label, request.storage_opt
    ),
    disturbs=True,
)
GET: Final = ProtocolCall(
    "Get",
    GetRequest,
    GetResponse,
    lambda driver, request, _: GetResponse(
        returned.directory(driver.get(request.id, request.mount_label))
    ),
    needs_whole=True,
)
PUT: Final = ProtocolCall(
    "Put",
    PutRequest,
    Nothing,
    lambda driver, request, _: driver.put(request.id),
    disturbs=True,
)
REMOVE: Final = ProtocolCall(
    "Remove",
    RemoveRequest,
    Nothing,
    lambda driver, request, _: driver.remove(request.id),
    exclusive=True,
    disturbs=True,
)
EXISTS: Final = ProtocolCall(
    "Exists",
    ExistsRequest,
    ExistsResponse,
    lambda driver, request, _: ExistsResponse(returned.truth(driver.exists(request.id))),
)
GET_METADATA: Final = ProtocolCall(
    "GetMetadata",
    GetMetadataRequest,
    GetMetadataResponse,
    lambda driver, request, _: GetMetadataResponse(
        returned.text_map(driver.get_metadata(request.id))
    ),
)
CHANGES: Final = ProtocolCall(
    "Changes",
    ChangesRequest,
    ChangesResponse,
    lambda driver, request, _: ChangesResponse(
        returned.changes(driver.changes(request.id, request.parent))
    ),
    needs_whole=True,
)
DIFF_SIZE: Final = ProtocolCall(
    "DiffSize",
    DiffSizeRequest,
    DiffSizeResponse,
    lambda driver, request, _: DiffSizeResponse(
        returned.size("diff_size", driver.diff_size(request.id, request.parent))
    ),
    needs_whole=True,
)
DIFF: Final = ProtocolCall(
    "Diff",
    DiffRequest,
    Nothing,
    lambda driver, request, _: returned.stream(driver.diff(request.id, request.parent)),
    needs_whole=True,
)
APPLY_DIFF: Final = ProtocolCall(
    "ApplyDiff",
    ApplyDiffRequest,
    ApplyDiffResponse,
    lambda driver, request, tar: ApplyDiffResponse(
        returned.size("apply_diff", driver.apply_diff(request.id, request.parent, tar))
    ),
    exclusive=True,
    disturbs=True,
)
CLEANUP: Final = ProtocolCall(
    "Cleanup", Nothing, Nothing, lambda driver, *_: driver.cleanup(), disturbs=True
)

CALLS: Final[tuple[ProtocolCall[Any, Any], ...]] = (
    *(ACTIVATE, INIT, CAPABILITIES, STATUS),
    *(CREATE, CREATE_READ_WRITE, GET, PUT, REMOVE, EXISTS, GET_METADATA),
    *(CHANGES, DIFF_SIZE, DIFF, APPLY_DIFF),
    CLEANUP,
)
"""All calls, in the order of the command line's help."""

BY_PATH: Final = {call.path: call for call in CALLS}

QUESTION_PATH: Final = "/graphdriver/"
"""The path of a question, before its name; beside the protocol, and asked with GET."""
