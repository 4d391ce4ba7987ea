"""Every error this project raises, in one tree.

An error says what was asked, of which layer, what went wrong, and what to do about it. Whoever
raises one knows the last two; the call and the layer are filled in by the handler, which knows them
for every driver (`GraphDriverError.about`). The text of `str(error)` is what the daemon shows to its
users, word for word.

An error knows its *kind*. What a kind means outside (an HTTP status, a gRPC code, an exit code) is
one table in each of the rooms that speak to the outside; nothing here knows about them.
"""

from __future__ import annotations

import enum
from typing import ClassVar, Final, Self


class Kind(enum.Enum):
    """What sort of failure an error is; the outside's codes are derived from it."""

    MALFORMED = "malformed"
    """The request itself is wrong: not JSON, a bad ID, a missing member."""
    UNKNOWN_CALL = "unknown call"
    """There is no such call."""
    WRONG_METHOD = "wrong method"
    """The call exists, but is not made with this HTTP method."""
    TOO_LARGE = "too large"
    """The request is over a limit."""
    NOT_FOUND = "not found"
    """The layer, or its parent, does not exist."""
    EXISTS = "exists"
    """The layer exists already."""
    IN_USE = "in use"
    """The layer or the home is in use by somebody else."""
    UNFINISHED = "unfinished"
    """The layer is incomplete: its transfer did not finish."""
    UNSUPPORTED = "unsupported"
    """This driver, filesystem or kernel cannot do it."""
    NOT_READY = "not ready"
    """No daemon has said Init yet."""
    BAD_ARCHIVE = "bad archive"
    """The tar of a layer is damaged or hostile."""
    BROKEN_STREAM = "broken stream"
    """A stream ended before it was whole."""
    UNREACHABLE = "unreachable"
    """There is no plugin to talk to."""
    FAILED = "failed"
    """Anything else."""


class GraphDriverError(Exception):
    """The root of the tree; also what a driver raises when nothing below fits better.

    Args:
        problem: what went wrong, in words that a daemon's user can act on.
        hint: what to do about it, if that is known.
        call: what was asked (``create``), if the raiser knows; the handler fills it in otherwise.
        layer: the ID of the layer that it was asked of, likewise.
    """

    kind: ClassVar[Kind] = Kind.FAILED

    def __init__(
        self,
        problem: str,
        *,
        hint: str | None = None,
        call: str | None = None,
        layer: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.call = call
        self.layer = layer

    def about(self, call: str, layer: str | None) -> Self:
        """Fill in what was asked, and of which layer, where the raiser did not say."""
        self.call = self.call or call
        self.layer = self.layer or layer
        return self

    def __str__(self) -> str:
        asked = " ".join(part for part in (self.call, self.layer) if part)
        text = f"{asked}: {self.problem}" if asked else self.problem
        return f"{text}; {self.hint}" if self.hint else text


class MalformedRequestError(GraphDriverError):
    """The request is not what the protocol says; the driver was not called."""

    kind = Kind.MALFORMED


class UnknownCallError(GraphDriverError):
    """There is no such call."""

    kind = Kind.UNKNOWN_CALL


class WrongMethodError(GraphDriverError):
    """Calls are made with POST."""

    kind = Kind.WRONG_METHOD


class TooLargeError(GraphDriverError):
    """The request is over a limit; the driver was not called."""

    kind = Kind.TOO_LARGE


class LayerNotFoundError(GraphDriverError):
    """The layer, or the parent it is to stand on, does not exist."""

    kind = Kind.NOT_FOUND


class LayerExistsError(GraphDriverError):
    """The layer exists already."""

    kind = Kind.EXISTS


class InUseError(GraphDriverError):
    """The layer, the home or the socket is in use by somebody else; the text names them."""

    kind = Kind.IN_USE


class LayerUnfinishedError(GraphDriverError):
    """The layer's ApplyDiff failed, broke off or was killed; only Remove is left to it."""

    kind = Kind.UNFINISHED


class UnsupportedError(GraphDriverError):
    """This driver, filesystem or kernel cannot do what was asked."""

    kind = Kind.UNSUPPORTED


class NotReadyError(GraphDriverError):
    """A call came before any daemon's Init."""

    kind = Kind.NOT_READY


class BadArchiveError(GraphDriverError):
    """The tar of a layer is damaged or hostile; the text names the entry."""

    kind = Kind.BAD_ARCHIVE


class BrokenStreamError(GraphDriverError):
    """A stream ended before it was whole, or what it was read from changed under it."""

    kind = Kind.BROKEN_STREAM


class UnreachableError(GraphDriverError):
    """There is no plugin of that name, or it does not answer."""

    kind = Kind.UNREACHABLE


class BadAnswerError(GraphDriverError):
    """A plugin's answer is not what the protocol says: of a wrong type, or too large."""


class RemoteError(GraphDriverError):
    """What a plugin answered instead of success: its text, and the HTTP status.

    Where the plugin names the kind, the error is of that kind's class too: a layer that does not exist
    is a `LayerNotFoundError`.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status

    def about(self, call: str, layer: str | None) -> Self:
        """Leave the plugin's words as they are."""
        return self


BY_KIND: Final[dict[Kind, type[GraphDriverError]]] = {
    cls.kind: cls
    for cls in (
        MalformedRequestError,
        UnknownCallError,
        WrongMethodError,
        TooLargeError,
        LayerNotFoundError,
        LayerExistsError,
        InUseError,
        LayerUnfinishedError,
        UnsupportedError,
        NotReadyError,
        BadArchiveError,
        BrokenStreamError,
        UnreachableError,
    )
}
"""The class of each kind but `Kind.FAILED`, which is any other's."""
