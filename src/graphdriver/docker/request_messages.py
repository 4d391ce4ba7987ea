"""A request, and its message: read from a JSON body, or from the URL's query."""

from __future__ import annotations

import dataclasses
import urllib.parse
from typing import Any, Final

from graphdriver.docker.codec import Message, decode, from_members
from graphdriver.docker.daemon import Peer
from graphdriver.docker.messages import ApplyDiffRequest, Nothing
from graphdriver.docker.protocol import APPLY_DIFF, ProtocolCall
from graphdriver.driver import ReadStream
from graphdriver.errors import MalformedRequestError, TooLargeError

JSON_LIMIT: Final = 1 << 20
"""The largest JSON body, in bytes."""

QUERY_LIMIT: Final = 16
"""The most members of an ApplyDiff's query; it needs two."""


@dataclasses.dataclass(slots=True)
class Request:
    """A request, as the server received it.

    Attributes:
        method: the HTTP method.
        path: the path of the URL, without the query.
        query: the query of the URL, undecoded.
        body: the body, without a limit.
        peer: the calling process; None if the kernel does not name it (TCP).
        by_hand: a person makes the call, and not a daemon.
    """

    method: str
    path: str
    query: str
    body: ReadStream
    peer: Peer | None = None
    by_hand: bool = False


def read_message(call: ProtocolCall[Any, Any], request: Request) -> Message:
    """Read the message of a request.

    Raises:
        MalformedRequestError: it breaks the protocol; the text names the member and the rule.
        TooLargeError: the body is over `JSON_LIMIT` bytes.
    """
    if call is APPLY_DIFF:
        return _query_message(request)
    body = bytearray()
    while piece := request.body.read(JSON_LIMIT + 1 - len(body)):
        body += piece
        if len(body) > JSON_LIMIT:
            raise TooLargeError(f"the body is over {JSON_LIMIT} bytes")
    return Nothing() if call.request is Nothing else decode(call.request, bytes(body))


def _query_message(request: Request) -> Message:
    """Read the message of an ApplyDiff; its body is the tar."""
    try:
        pairs = urllib.parse.parse_qsl(
            request.query,
            keep_blank_values=True,
            max_num_fields=QUERY_LIMIT,
            errors="surrogateescape",
        )
    except ValueError as error:
        raise MalformedRequestError(f"the query has over {QUERY_LIMIT} members") from error
    names = [name.casefold() for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise MalformedRequestError(f"{name[:80]} is in the query more than once")
    return from_members(ApplyDiffRequest, dict(pairs))
