"""Write a container storage driver once, in Python; Docker keeps its images and containers on it.

The contract is `graphdriver.driver`; `serve_unix` serves a driver to a daemon; `Client` uses one
that runs somewhere.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphdriver.docker.address.listeners import TCPListener, UnixListener
    from graphdriver.docker.client import Client
    from graphdriver.docker.handler import Handler
    from graphdriver.docker.http.server import Server
    from graphdriver.docker.serve import serve, serve_tcp, serve_unix
    from graphdriver.driver import (
        DEFAULT_DOCKER_ROOT_DIRECTORY,
        Capabilities,
        Change,
        ChangeKind,
        ClosableStream,
        Driver,
        IDMap,
        ProtoDriver,
        ReadStream,
        mounted,
    )
    from graphdriver.errors import GraphDriverError
    from graphdriver.naive import NaiveDiffDriver

__all__ = [
    "DEFAULT_DOCKER_ROOT_DIRECTORY",
    "Capabilities",
    "Change",
    "ChangeKind",
    "Client",
    "ClosableStream",
    "Driver",
    "GraphDriverError",
    "Handler",
    "IDMap",
    "NaiveDiffDriver",
    "ProtoDriver",
    "ReadStream",
    "Server",
    "TCPListener",
    "UnixListener",
    "mounted",
    "serve",
    "serve_tcp",
    "serve_unix",
]

_PLACES = {
    "graphdriver.errors": ("GraphDriverError",),
    "graphdriver.naive": ("NaiveDiffDriver",),
    "graphdriver.docker.client": ("Client",),
    "graphdriver.docker.handler": ("Handler",),
    "graphdriver.docker.address.listeners": ("TCPListener", "UnixListener"),
    "graphdriver.docker.serve": ("serve", "serve_tcp", "serve_unix"),
    "graphdriver.docker.http.server": ("Server",),
}
_ELSEWHERE = {name: place for place, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that a plugin can bind its socket first."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = _ELSEWHERE.get(name, "graphdriver.driver")
    return getattr(importlib.import_module(place), name)
