"""The calls with a JSON request, by method; the tests of every message are made of this."""

from __future__ import annotations

import dataclasses
from typing import Any

from graphdriver.docker import messages
from graphdriver.docker.codec import Codec

REQUESTS = {
    "Init": messages.InitRequest,
    "Create": messages.CreateRequest,
    "CreateReadWrite": messages.CreateRequest,
    "Remove": messages.RemoveRequest,
    "Get": messages.GetRequest,
    "Put": messages.PutRequest,
    "Exists": messages.ExistsRequest,
    "GetMetadata": messages.GetMetadataRequest,
    "Changes": messages.ChangesRequest,
    "DiffSize": messages.DiffSizeRequest,
    "Diff": messages.DiffRequest,
}
"""Those that need something."""

NEEDS_NOTHING = ("Status", "Capabilities", "Cleanup")
"""Those that ignore their body."""


def members(request: Any) -> dict[str, Codec]:
    """Return a message's members and how each is read."""
    return {
        field.metadata["json"]: field.metadata["codec"] for field in dataclasses.fields(request)
    }


def required(request: Any) -> str:
    """Return the member that a message must have; there is one in each."""
    (name,) = [
        field.metadata["json"]
        for field in dataclasses.fields(request)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    return str(name)
