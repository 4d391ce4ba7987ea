"""The messages of the protocol, under Docker's names.

Fields have snake_case names here, and Docker's member names in JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from graphdriver.docker.codec import (
    BOOLEAN,
    CAPABILITIES,
    CHANGES,
    DIRECTORY,
    HOME,
    ID_MAPS,
    LAYER,
    OPTIONAL_TEXT,
    PAIRS,
    PARENT,
    SIZE,
    TEXT,
    TEXT_MAP,
    TEXTS,
    json_member,
)
from graphdriver.driver import Capabilities, Change, IDMap
from graphdriver.errors import GraphDriverError, Kind


@dataclasses.dataclass(frozen=True, slots=True)
class Nothing:
    """The message of a call that needs no members, or returns none."""


@dataclasses.dataclass(frozen=True, slots=True)
class ActivateResponse:
    """The response to ``Plugin.Activate``: the list of what a plugin implements."""

    implements: Sequence[str] = json_member("Implements", TEXTS, ())


@dataclasses.dataclass(frozen=True, slots=True)
class InitRequest:
    """See `graphdriver.ProtoDriver.init`."""

    home: str = json_member("Home", HOME)
    options: Sequence[str] = json_member("Opts", TEXTS, ())
    uid_maps: Sequence[IDMap] = json_member("UIDMaps", ID_MAPS, ())
    gid_maps: Sequence[IDMap] = json_member("GIDMaps", ID_MAPS, ())


@dataclasses.dataclass(frozen=True, slots=True)
class CreateRequest:
    """See `graphdriver.ProtoDriver.create`; CreateReadWrite has the same request."""

    id: str = json_member("ID", LAYER)
    parent: str = json_member("Parent", PARENT, "")
    mount_label: str = json_member("MountLabel", TEXT, "")
    storage_opt: Mapping[str, str] = json_member("StorageOpt", TEXT_MAP, {})


@dataclasses.dataclass(frozen=True, slots=True)
class RemoveRequest:
    """See `graphdriver.ProtoDriver.remove`."""

    id: str = json_member("ID", LAYER)


@dataclasses.dataclass(frozen=True, slots=True)
class GetRequest:
    """See `graphdriver.ProtoDriver.get`."""

    id: str = json_member("ID", LAYER)
    mount_label: str = json_member("MountLabel", TEXT, "")


@dataclasses.dataclass(frozen=True, slots=True)
class GetResponse:
    """The absolute path of the layer's root."""

    dir: str = json_member("Dir", DIRECTORY)


@dataclasses.dataclass(frozen=True, slots=True)
class PutRequest:
    """See `graphdriver.ProtoDriver.put`."""

    id: str = json_member("ID", LAYER)


@dataclasses.dataclass(frozen=True, slots=True)
class ExistsRequest:
    """See `graphdriver.ProtoDriver.exists`."""

    id: str = json_member("ID", LAYER)


@dataclasses.dataclass(frozen=True, slots=True)
class ExistsResponse:
    """Whether the layer exists."""

    exists: bool = json_member("Exists", BOOLEAN, default=False)


@dataclasses.dataclass(frozen=True, slots=True)
class StatusResponse:
    """The pairs that ``docker info`` shows, in this order."""

    status: Sequence[tuple[str, str]] = json_member("Status", PAIRS, ())


@dataclasses.dataclass(frozen=True, slots=True)
class GetMetadataRequest:
    """See `graphdriver.ProtoDriver.get_metadata`."""

    id: str = json_member("ID", LAYER)


@dataclasses.dataclass(frozen=True, slots=True)
class GetMetadataResponse:
    """The pairs that ``docker inspect`` shows for a layer."""

    metadata: Mapping[str, str] = json_member("Metadata", TEXT_MAP, {})


@dataclasses.dataclass(frozen=True, slots=True)
class DiffRequest:
    """See `graphdriver.Driver.diff`; the response is the tar itself."""

    id: str = json_member("ID", LAYER)
    parent: str = json_member("Parent", PARENT, "")


@dataclasses.dataclass(frozen=True, slots=True)
class ChangesRequest:
    """See `graphdriver.Driver.changes`."""

    id: str = json_member("ID", LAYER)
    parent: str = json_member("Parent", PARENT, "")


@dataclasses.dataclass(frozen=True, slots=True)
class ChangesResponse:
    """The changes, in any order."""

    changes: Iterable[Change] = json_member("Changes", CHANGES, ())


@dataclasses.dataclass(frozen=True, slots=True)
class ApplyDiffRequest:
    """See `graphdriver.Driver.apply_diff`.

    It is the URL's query, ``?id=…&parent=…``, since the tar is the body.
    """

    id: str = json_member("id", LAYER)
    parent: str = json_member("parent", PARENT, "")


@dataclasses.dataclass(frozen=True, slots=True)
class ApplyDiffResponse:
    """The sum of the sizes in the tar's headers, in bytes."""

    size: int = json_member("Size", SIZE, 0)


@dataclasses.dataclass(frozen=True, slots=True)
class DiffSizeRequest:
    """See `graphdriver.Driver.diff_size`."""

    id: str = json_member("ID", LAYER)
    parent: str = json_member("Parent", PARENT, "")


@dataclasses.dataclass(frozen=True, slots=True)
class DiffSizeResponse:
    """The size of the changes, in bytes."""

    size: int = json_member("Size", SIZE, 0)


@dataclasses.dataclass(frozen=True, slots=True)
class CapabilitiesResponse:
    """See `graphdriver.Capabilities`."""

    capabilities: Capabilities = json_member(  # noqa: RUF009 - a field, like all the others
        "Capabilities", CAPABILITIES, Capabilities()
    )


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorResponse:
    """The response for an error; the daemon shows ``err`` to its users word for word.

    ``kind`` is the value of a `graphdriver.errors.Kind`, for our own client; daemons ignore it.
    """

    err: str = json_member("Err", TEXT, "")
    kind: str = json_member("Kind", OPTIONAL_TEXT, "")


def new_error_response(error: Exception) -> ErrorResponse:
    """Return the response for an error: its text, or the name of its type if it has none; its kind."""
    kind = error.kind if isinstance(error, GraphDriverError) else Kind.FAILED
    return ErrorResponse(str(error) or type(error).__name__, kind.value)
