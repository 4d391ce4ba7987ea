"""Write a container storage driver once, in Python; Docker and containerd keep their images on it.

All public names are here, and only here; docs/contract.md lists them. A driver extends `ProtoDriver`
or `Driver`, and `serve_unix` serves it to a Docker daemon. `Client` uses a plugin that runs somewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.9.0"  # the only place: the build reads it from here

if TYPE_CHECKING:
    from graphdriver.abilities import (
        ChecksOptions,
        CountsGets,
        CountsUsage,
        FindsLeftovers,
        KeepsMounts,
        Mount,
        NamesMounts,
        ProbesHome,
        Suitability,
        TellsTouched,
        TellsUntouched,
        Touched,
        Usage,
        WorksInBackground,
        ability,
    )
    from graphdriver.docker.address.discovery import Address, ClientTLS
    from graphdriver.docker.address.listeners import Listener, TCPListener, UnixListener
    from graphdriver.docker.client import Client, RemoteDiff
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
        Needs,
        ProtoDriver,
        ReadStream,
        host_root,
        mounted,
    )
    from graphdriver.errors import (
        BadAnswerError,
        BadArchiveError,
        BrokenStreamError,
        GraphDriverError,
        InUseError,
        Kind,
        LayerDamagedError,
        LayerExistsError,
        LayerNotFoundError,
        LayerUnfinishedError,
        MalformedRequestError,
        NotReadyError,
        RemoteError,
        TooLargeError,
        UnknownCallError,
        UnreachableError,
        UnsupportedError,
        WrongMethodError,
    )
    from graphdriver.naive import NaiveDiffDriver

__all__ = [
    "DEFAULT_DOCKER_ROOT_DIRECTORY",
    "Address",
    "BadAnswerError",
    "BadArchiveError",
    "BrokenStreamError",
    "Capabilities",
    "Change",
    "ChangeKind",
    "ChecksOptions",
    "Client",
    "ClientTLS",
    "ClosableStream",
    "CountsGets",
    "CountsUsage",
    "Driver",
    "FindsLeftovers",
    "GraphDriverError",
    "Handler",
    "IDMap",
    "InUseError",
    "KeepsMounts",
    "Kind",
    "LayerDamagedError",
    "LayerExistsError",
    "LayerNotFoundError",
    "LayerUnfinishedError",
    "Listener",
    "MalformedRequestError",
    "Mount",
    "NaiveDiffDriver",
    "NamesMounts",
    "Needs",
    "NotReadyError",
    "ProbesHome",
    "ProtoDriver",
    "ReadStream",
    "RemoteDiff",
    "RemoteError",
    "Server",
    "Suitability",
    "TCPListener",
    "TellsTouched",
    "TellsUntouched",
    "TooLargeError",
    "Touched",
    "UnixListener",
    "UnknownCallError",
    "UnreachableError",
    "UnsupportedError",
    "Usage",
    "WorksInBackground",
    "WrongMethodError",
    "__version__",
    "ability",
    "host_root",
    "mounted",
    "serve",
    "serve_tcp",
    "serve_unix",
]

if not TYPE_CHECKING:  # mypy would accept any name of a module that has a __getattr__
    _PLACES = {
        "ChecksOptions": "graphdriver.abilities",
        "CountsGets": "graphdriver.abilities",
        "CountsUsage": "graphdriver.abilities",
        "FindsLeftovers": "graphdriver.abilities",
        "KeepsMounts": "graphdriver.abilities",
        "Mount": "graphdriver.abilities",
        "NamesMounts": "graphdriver.abilities",
        "ProbesHome": "graphdriver.abilities",
        "Suitability": "graphdriver.abilities",
        "TellsTouched": "graphdriver.abilities",
        "TellsUntouched": "graphdriver.abilities",
        "Touched": "graphdriver.abilities",
        "Usage": "graphdriver.abilities",
        "WorksInBackground": "graphdriver.abilities",
        "ability": "graphdriver.abilities",
        "Kind": "graphdriver.errors",
        "NaiveDiffDriver": "graphdriver.naive",
        "Address": "graphdriver.docker.address.discovery",
        "ClientTLS": "graphdriver.docker.address.discovery",
        "Listener": "graphdriver.docker.address.listeners",
        "TCPListener": "graphdriver.docker.address.listeners",
        "UnixListener": "graphdriver.docker.address.listeners",
        "Client": "graphdriver.docker.client",
        "RemoteDiff": "graphdriver.docker.client",
        "Handler": "graphdriver.docker.handler",
        "Server": "graphdriver.docker.http.server",
        "serve": "graphdriver.docker.serve",
        "serve_tcp": "graphdriver.docker.serve",
        "serve_unix": "graphdriver.docker.serve",
    }

    def __getattr__(name):
        """Import a public name when it is first used, so that a plugin can bind its socket first."""
        import importlib

        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        rest = "graphdriver.errors" if name.endswith("Error") else "graphdriver.driver"
        value = getattr(importlib.import_module(_PLACES.get(name, rest)), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted(__all__)
