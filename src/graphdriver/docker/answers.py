"""Checks of a plugin's answers.

A plugin may be written by anybody. So no answer is read beyond a limit, each must have the type of the
protocol, and one that breaks off is an error and never a shorter answer. A refusal becomes an error of
the kind in the answer; without a kind it is a plain `RemoteError`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import Any, Final, TypeVar

from graphdriver.docker.codec import Message, decode, from_members, read_members
from graphdriver.docker.messages import ErrorResponse
from graphdriver.docker.protocol import CHANGES, ProtocolCall
from graphdriver.errors import (
    BY_KIND,
    BadAnswerError,
    BrokenStreamError,
    MalformedRequestError,
    RemoteError,
)
from graphdriver.printable import printable

LIMIT: Final = 1 << 20
"""The largest answer, in bytes, except for a list of changes."""

CHANGES_LIMIT: Final = 64 << 20
"""The largest list of changes, in bytes: one of a million paths of 64 bytes."""

QUESTION_LIMIT: Final = 64 << 20
"""The largest answer to a question, in bytes: a list of some 200,000 layers."""

REFUSAL_LIMIT: Final = 64 << 10
"""The most that is read of a refusal, in bytes."""

_LONGEST: Final = 2000
"""The most that is shown of an answer, in characters."""

R = TypeVar("R", bound=Message)

_OF_KIND: Final[dict[str, type[RemoteError]]] = {
    kind.value: type(cls.__name__, (RemoteError, cls), {"__doc__": cls.__doc__})
    for kind, cls in BY_KIND.items()
}


def shown(found: object) -> str:
    """Return a plugin's text or value in a form that is safe on a terminal.

    Long texts are cut. Control characters, which a terminal would obey, are escaped.
    """
    text = found if isinstance(found, str) else repr(found)
    plain = printable(text[:_LONGEST], keep="\n\t")
    return plain if len(text) <= _LONGEST else f"{plain}… ({len(text)} characters)"


class AnswerBody:
    """The body of an answer; a stream that ends with an error if the body breaks off."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self._answer = answer
        self._broken = ""

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes, ``b""`` at the end.

        Raises:
            BrokenStreamError: the connection ended before the body did.
        """
        if self._broken:  # the next read of http.client would return b"", as at the end
            raise BrokenStreamError(self._broken)
        try:
            piece = self._answer.read(n)
        except (OSError, http.client.HTTPException) as error:
            self._broken = f"the plugin's answer broke off: {error!r}"
            raise BrokenStreamError(self._broken) from error
        left = self._answer.length
        if n and not piece and left:  # http.client reports no short body with Content-Length
            self._broken = f"the plugin's answer broke off, {left} bytes before its end"
            raise BrokenStreamError(self._broken)
        return piece

    def whole(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            BadAnswerError: it is over the limit.
            BrokenStreamError: as for `read`.
        """
        body = bytearray()
        while piece := self.read(limit + 1 - len(body)):
            body += piece
            if len(body) > limit:
                raise BadAnswerError(f"the answer is over {limit} bytes")
        return bytes(body)


def read_answer(call: ProtocolCall[Any, R], answer: http.client.HTTPResponse) -> R:
    """Read the message of a successful answer.

    Raises:
        BadAnswerError: it breaks the protocol; the text names the member and the rule.
        BrokenStreamError: it broke off.
        RemoteError: it is a refusal: a status of 200 with an error in it.
    """
    body = AnswerBody(answer).whole(CHANGES_LIMIT if call is CHANGES else LIMIT)
    try:
        members = read_members(body)
        refusal = from_members(ErrorResponse, members)
        if refusal.err:
            raise _error(refusal, answer.status)
        return from_members(call.response, members)
    except MalformedRequestError as error:
        raise BadAnswerError(f"the answer breaks the protocol: {error}") from error


def read_json(answer: http.client.HTTPResponse) -> object:
    """Read the answer to a question.

    Raises:
        BadAnswerError: it is not JSON, or too large.
        BrokenStreamError: it broke off.
    """
    body = AnswerBody(answer).whole(QUESTION_LIMIT)
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadAnswerError(f"the answer to a question is not JSON: {error}") from error
    return found


def refusal_of(call: str, answer: http.client.HTTPResponse) -> RemoteError:
    """Return a refusal as an error, with ``Err`` of its JSON as text, or else the whole body."""
    body = b""
    with contextlib.suppress(BrokenStreamError):
        body = AnswerBody(answer).read(REFUSAL_LIMIT)
    with contextlib.suppress(MalformedRequestError):
        refusal = decode(ErrorResponse, body)
        if refusal.err:
            return _error(refusal, answer.status)
    text = body.decode("utf-8", "replace").strip() or (
        f"{call}: the plugin answered with status {answer.status} and no text; "
        "expected 200, or a text that says what is wrong"
    )
    return RemoteError(text, answer.status)


def _error(refusal: ErrorResponse, status: int) -> RemoteError:
    return _OF_KIND.get(refusal.kind, RemoteError)(refusal.err, status)
