"""Asks containerd for its version and its plugins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from graphdriver.containerd import _messages_pb2 as pb
from graphdriver.errors import BadAnswerError, UnreachableError

SOCKET: Final = "/run/containerd/containerd.sock"
"""Where containerd listens by default."""

_VERSION: Final = "/containerd.services.version.v1.Version/Version"
_PLUGINS: Final = "/containerd.services.introspection.v1.Introspection/Plugins"

_SNAPSHOTTER: Final = "io.containerd.snapshotter.v1"
_LIMIT: Final = 4 << 20
_LONGEST: Final = 200
"""How many characters of a name are kept: somebody else's program may listen there."""


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
        call: Callable[..., bytes] = channel.unary_unary(_VERSION)
        try:
            version = pb.VersionResponse.FromString(call(b"", timeout=seconds)).version
            plugins = plugins_of(channel, seconds)
        except grpc.RpcError as error:
            reason = str(getattr(error, "details", str)()) or "no answer"
            raise UnreachableError(f"containerd at {path} does not answer: {reason}") from error
        except DecodeError as error:
            raise BadAnswerError(f"the answer of {path} is no message of containerd's") from error
    names = (one.id[:_LONGEST] for one in plugins if one.type == _SNAPSHOTTER)
    return Containerd(version[:_LONGEST], frozenset(names))


def plugins_of(channel: grpc.Channel, seconds: float) -> Sequence[pb.Plugin]:
    """Return the plugins of a containerd.

    Args:
        channel: a connection to it.
        seconds: how long the answer may take.

    Raises:
        grpc.RpcError: no answer came.
        DecodeError: what came is no answer of containerd's.
    """
    call: Callable[..., bytes] = channel.unary_unary(_PLUGINS)
    return pb.PluginsResponse.FromString(call(b"", timeout=seconds)).plugins
