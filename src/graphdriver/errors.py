"""The errors of this project, in one tree.

An error has the shape *what was asked, of which layer: what is wrong; what to do*. The code that raises
it gives the last two; the handler adds the call and the layer, for every driver
(`GraphDriverError.about`). The daemon shows this text, `str(error)`, to its users word for word.

An error has a *kind*. Three tables map kinds to codes: HTTP statuses (`graphdriver.docker.handler`),
gRPC codes (`graphdriver.containerd.service`) and exit codes (`graphdriver.cli.command`).
"""

from __future__ import annotations

import enum
import shlex
from typing import ClassVar, Final, Self


class Kind(enum.Enum):
    """The kind of failure of an error."""

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
    DAMAGED = "damaged"
    """Files of the layer, or of one below it, were lost or damaged."""
    UNSUPPORTED = "unsupported"
    """This driver, filesystem or kernel cannot do it."""
    NOT_READY = "not ready"
    """No daemon has sent Init yet."""
    BAD_ARCHIVE = "bad archive"
    """The tar of a layer is damaged or hostile."""
    BROKEN_STREAM = "broken stream"
    """A stream ended before its end."""
    UNREACHABLE = "unreachable"
    """The plugin was not found, or does not answer."""
    FAILED = "failed"
    """Anything else."""


class GraphDriverError(Exception):
    """The base class of all errors; a driver raises it if no class below fits.

    Args:
        problem: what is wrong, in words that a daemon's user can act on.
        hint: what to do about it, if that is known.
        call: what was asked, such as ``create``; by default the handler adds it.
        layer: the ID of the layer; by default the handler adds it.
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
        """Add the call and the layer, if the error does not have them."""
        self.call = self.call or call
        self.layer = self.layer or layer
        return self

    def __str__(self) -> str:
        asked = " ".join(part for part in (self.call, self.layer) if part)
        text = f"{asked}: {self.problem}" if asked else self.problem
        return f"{text}; {self.hint}" if self.hint else text


class MalformedRequestError(GraphDriverError):
    """The request breaks the protocol; the driver was not called."""

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
    """The layer, or its parent, does not exist."""

    kind = Kind.NOT_FOUND


class LayerExistsError(GraphDriverError):
    """The layer exists already."""

    kind = Kind.EXISTS


class InUseError(GraphDriverError):
    """The layer, the home or the socket is in use by somebody else; the text names them."""

    kind = Kind.IN_USE


class LayerUnfinishedError(GraphDriverError):
    """The layer is incomplete, since its ApplyDiff did not finish: it can only be removed.

    Also raised by an ApplyDiff of a layer that was filled before: each layer is filled once.
    """

    kind = Kind.UNFINISHED


class LayerDamagedError(GraphDriverError):
    """Files of a layer were lost or damaged: neither it nor a layer on it can be used.

    The text names the damaged layer, which may be another one than the call is about: one below it.
    """

    kind = Kind.DAMAGED

    @classmethod
    def of(cls, layer: str, wrong: str, home: str) -> LayerDamagedError:
        """Return the error for a damaged layer.

        Args:
            layer: its ID.
            wrong: what is wrong with it.
            home: the driver's home, which ``graphdriver fsck`` checks.
        """
        return cls(
            f"layer {layer} is damaged: {wrong}", hint=f"graphdriver fsck {shlex.quote(home)}"
        )


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
    """A stream ended before its end, or its source changed while it was read."""

    kind = Kind.BROKEN_STREAM


class UnreachableError(GraphDriverError):
    """There is no plugin of that name, or it does not answer."""

    kind = Kind.UNREACHABLE


class BadAnswerError(GraphDriverError):
    """A plugin's answer breaks the protocol: a wrong type, or too large."""


class RemoteError(GraphDriverError):
    """A plugin refused a call; the text is the plugin's own, ``status`` is the HTTP status.

    If the plugin names a kind, the error is also of that kind's class: for a layer that does not exist,
    it is a `LayerNotFoundError` too.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status

    def about(self, call: str, layer: str | None) -> Self:
        """Keep the plugin's own text."""
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
        LayerDamagedError,
        UnsupportedError,
        NotReadyError,
        BadArchiveError,
        BrokenStreamError,
        UnreachableError,
    )
}
"""The class of each kind; `Kind.FAILED` is that of all other errors."""
