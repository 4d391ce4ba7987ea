"""Asks containerd for its version and its snapshotters.

The messages are tiny and have been the same since containerd 1.0, so their fields are read here, by
number (protobuf.dev, "Encoding"), instead of by generated code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import grpc

from graphdriver.errors import BadAnswerError, UnreachableError

SOCKET: Final = "/run/containerd/containerd.sock"
"""Where containerd listens by default."""

_VERSION: Final = "/containerd.services.version.v1.Version/Version"
PLUGINS: Final = "/containerd.services.introspection.v1.Introspection/Plugins"
"""The call that lists containerd's plugins, to which an empty request is sent."""

_CONTENT: Final = "io.containerd.content.v1"
_EXPORTS: Final = 5
_KIND: Final = b"io.containerd.snapshotter.v1"
_LIMIT: Final = 4 << 20


class Containerd(NamedTuple):
    """A containerd that answered.

    Attributes:
        version: as it says.
        snapshotters: the names of those that it has, its own and others.
    """

    version: str
    snapshotters: frozenset[str]


def ask_containerd(path: str, seconds: float = 5.0) -> Containerd:
    """Ask a containerd about itself.

    Args:
        path: its socket.
        seconds: how long each answer may take.

    Raises:
        UnreachableError: no process listens there, or no answer came.
        BadAnswerError: what came is no answer of containerd's.
    """
    options = [("grpc.max_receive_message_length", _LIMIT)]
    with grpc.insecure_channel(f"unix:{path}", options) as channel:

        def ask(method: str) -> bytes:
            call: Callable[..., bytes] = channel.unary_unary(method)
            return call(b"", timeout=seconds)

        try:
            version, plugins = ask(_VERSION), ask(PLUGINS)
        except grpc.RpcError as error:
            reason = str(getattr(error, "details", str)()) or "no answer"
            raise UnreachableError(f"containerd at {path} does not answer: {reason}") from error
    try:
        return Containerd(
            _text(version, 1),
            frozenset(
                _text(plugin, 2)
                for number, plugin in _fields(plugins)
                if number == 1 and _text(plugin, 1).encode() == _KIND
            ),
        )
    except (ValueError, IndexError) as error:
        raise BadAnswerError(f"the answer of {path} is no message of containerd's") from error


def content_root(plugins: bytes) -> str:
    """Return the directory of containerd's content store; ``""`` if it is not in an answer.

    Args:
        plugins: the answer of `PLUGINS`.

    Raises:
        ValueError, IndexError: it is no message of containerd's.
    """
    for number, plugin in _fields(plugins):
        if number == 1 and _text(plugin, 1) == _CONTENT:
            for field, entry in _fields(plugin):
                if field == _EXPORTS and _text(entry, 1) == "root":
                    return _text(entry, 2)
    return ""


def _text(message: bytes, wanted: int) -> str:
    """Return a field with text; empty if the message does not have it."""
    found = [value for number, value in _fields(message) if number == wanted]
    return found[-1][:200].decode("utf-8", "replace") if found else ""


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each field that has a length; skip the others.

    Raises:
        ValueError: it is no message.
        IndexError: it is cut off.
    """
    at = 0
    while at < len(message):
        tag, at = _number(message, at)
        match tag & 7:
            case 0:
                _, at = _number(message, at)
            case 1:
                at += 8
            case 2:
                length, at = _number(message, at)
                if at + length > len(message):
                    raise ValueError("a field is cut off")
                yield tag >> 3, message[at : at + length]
                at += length
            case 5:
                at += 4
            case _:
                raise ValueError("a field has an unknown type")


def _number(message: bytes, at: int) -> tuple[int, int]:
    """Return a number of 64 bits at most, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")
