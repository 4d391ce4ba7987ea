"""Sockets and spec files by which daemons find plugins."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from graphdriver.care.findings import Finding, Severity, wrong_access
from graphdriver.linux.unix_sockets import has_listener

_PATIENCE: Final = 1.0


@dataclass(frozen=True, slots=True)
class PlaceFacts:
    """A socket or a spec file.

    Attributes:
        path: the file.
        name: the plugin's name.
        address: what it leads to; ``""``: that is unknown.
        problem: why the file cannot be used; ``""``: it can.
        listens: whether a process listens there; None: unknown.
        is_socket: whether the file is a socket, not a spec file.
        uid: its owner.
        mode: its permissions.
        is_open_port: whether it leads to TCP without TLS beyond loopback.
        is_unverified: whether it leads to TLS without a check of the plugin's certificate.
    """

    path: str
    name: str
    address: str = ""
    problem: str = ""
    listens: bool | None = True
    is_socket: bool = True
    uid: int = 0
    mode: int = 0o660
    is_open_port: bool = False
    is_unverified: bool = False


def listens(path: str, host: str, port: int) -> bool | None:
    """Tell whether a process listens on a unix socket or a port; None: that is unknown.

    Args:
        path: the socket; ``""``: a port.
        host: its host.
        port: its number.
    """
    try:
        if path:
            return has_listener(path)
        with socket.create_connection((host, port), _PATIENCE):
            return True
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:
        return None


def check_places(places: Sequence[PlaceFacts], built_in: frozenset[str]) -> Iterator[Finding]:
    """Yield what is wrong with them.

    Args:
        places: in the order in which a daemon looks.
        built_in: the names of drivers that a daemon has itself.
    """
    first: dict[str, str] = {}
    for place in places:
        yield from _check_place(place)
        if place.name in first:
            yield Finding(
                Severity.WARNING,
                "hidden-place",
                place.path,
                f"no daemon reads it: for the name {place.name} it finds {first[place.name]} first",
                f"remove one of them: rm {shlex.quote(place.path)}",
            )
        first.setdefault(place.name, place.path)
        if place.name in built_in:
            yield Finding(
                Severity.WARNING,
                "built-in-name",
                place.path,
                f"a daemon uses its own driver {place.name}, and never this plugin",
                f"serve it under another name: --name py-{place.name}",
            )


def _check_place(place: PlaceFacts) -> Iterator[Finding]:
    quoted = shlex.quote(place.path)  # what is to be done may be pasted into a shell
    if place.problem:
        yield Finding(
            Severity.WARNING,
            "damaged-place",
            place.path,
            place.problem,
            f"correct it, or remove it: rm {quoted}",
        )
    elif place.listens is False:
        leads = "" if place.is_socket else f" at {place.address}, to which it leads"
        yield Finding(
            Severity.WARNING,
            "stale-place",
            place.path,
            f"no process listens{leads}: a daemon that looks for {place.name} waits 15 s for it",
            f"start the plugin, or remove the file: rm {quoted}",
        )
    elif place.listens:
        yield Finding(Severity.NOTE, "plugin", place.path, f"a plugin listens at {place.address}")
    if place.is_socket and (place.mode & 0o002 or place.uid):
        problem = wrong_access(place.uid, place.mode)
        yield Finding(
            Severity.DAMAGE,
            "open-socket",
            place.path,
            f"it {problem}: other users can call the plugin, and become root on this machine",
            f"chown root {quoted}; chmod 0660 {quoted}; with systemd: SocketMode=0660",
        )
    if not place.is_socket and (place.mode & 0o022 or place.uid):
        problem = wrong_access(place.uid, place.mode)
        yield Finding(
            Severity.DAMAGE,
            "open-spec-file",
            place.path,
            f"it {problem}: another user can lead the daemon to a plugin of his own",
            f"chown root {quoted}; chmod 0644 {quoted}",
        )
    if place.is_open_port:
        yield Finding(
            Severity.DAMAGE,
            "open-port",
            place.path,
            f"{place.address} can be reached from other machines without TLS: whoever reaches it is"
            " root here",
            "use TLS with client certificates, or a unix socket",
        )
    if place.is_unverified:
        yield Finding(
            Severity.WARNING,
            "unverified-plugin",
            place.path,
            "the daemon does not check the plugin's certificate (InsecureSkipVerify)",
            "leave InsecureSkipVerify out, and name the authority in CAFile",
        )
