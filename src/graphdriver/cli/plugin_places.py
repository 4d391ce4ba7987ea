"""The sockets and spec files by which daemons find plugins, as facts for ``graphdriver doctor``."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence

from graphdriver.care.doctor.places import PlaceFacts, listens
from graphdriver.docker.address.discovery import SPEC_DIRECTORIES, read_spec
from graphdriver.docker.address.listeners import PLUGIN_SOCKETS, refuse_beyond_loopback
from graphdriver.errors import GraphDriverError, UnsupportedError


def read_places(
    sockets: str = PLUGIN_SOCKETS, specs: Sequence[str] = SPEC_DIRECTORIES
) -> list[PlaceFacts]:
    """Return all places, in the order in which a daemon looks for one name."""
    places = [_socket(path, name) for path, name in _files(sockets, ".sock")]
    for directory in specs:
        for suffix in (".spec", ".json"):
            places += [_spec(path, name) for path, name in _files(directory, suffix)]
    return places


def _files(directory: str, suffix: str) -> Iterator[tuple[str, str]]:
    """Yield the files for plugins' names: ``NAME.sock`` and ``NAME/NAME.sock``."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = sorted(os.listdir(directory))
    for name in names:
        if name.endswith(suffix):
            yield f"{directory}/{name}", name.removesuffix(suffix)
        elif os.path.lexists(inner := f"{directory}/{name}/{name}{suffix}"):
            yield inner, name


def _socket(path: str, name: str) -> PlaceFacts:
    try:
        there = os.stat(path)
        if not stat.S_ISSOCK(there.st_mode):
            return PlaceFacts(path, name, problem="it is not a socket, so no daemon uses it")
        return PlaceFacts(
            path,
            name,
            f"unix://{path}",
            listens=listens(path, "", 0),
            uid=there.st_uid,
            mode=stat.S_IMODE(there.st_mode),
        )
    except OSError as error:
        return PlaceFacts(path, name, problem=f"it cannot be looked at: {error.strerror}")


def _spec(path: str, name: str) -> PlaceFacts:
    try:
        there = os.stat(path)
        address = read_spec(path)
    except OSError as error:
        return PlaceFacts(
            path, name, problem=f"it cannot be read: {error.strerror}", is_socket=False, mode=0o644
        )
    except GraphDriverError as error:
        return PlaceFacts(path, name, problem=error.problem, is_socket=False, mode=0o644)
    return PlaceFacts(
        path,
        name,
        str(address),
        listens=listens(address.path, address.host, address.port),
        is_socket=False,
        uid=there.st_uid,
        mode=stat.S_IMODE(there.st_mode),
        is_open_port=bool(address.host) and address.tls is None and _is_reachable(address.host),
        is_unverified=address.tls is not None and not address.tls.verify,
    )


def _is_reachable(host: str) -> bool:
    """Tell whether a plain port on a host may be reached from other machines."""
    try:
        refuse_beyond_loopback("127.0.0.1" if host == "localhost" else host)
    except UnsupportedError:
        return True
    return False
