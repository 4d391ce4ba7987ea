"""The places where ``graphdriver serve`` listens, and how a daemon finds them.

A place is a socket (a unix socket, TCP, or one that systemd passed), the plugin's name, and for all
but ``/run/docker/plugins/NAME.sock`` a file in ``/etc/docker/plugins``. The socket is bound when the
place is made, before anything slow is imported.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from graphdriver.docker.address.listeners import (
    PLUGIN_SOCKETS,
    Listener,
    TCPListener,
    UnixListener,
    dialled_host,
)
from graphdriver.errors import MalformedRequestError, UnreachableError

if TYPE_CHECKING:
    from graphdriver.docker.address.discovery import ClientTLS

BUILT_IN: Final = frozenset(
    {"vfs", "overlay2", "btrfs", "fuse-overlayfs", "overlay", "aufs", "zfs", "devicemapper"}
)
"""Docker's own drivers: a daemon silently prefers them to a plugin of the same name."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_OURS: Final = ("--tlscacert", "--tlscert", "--tlskey")
_DAEMONS: Final = ("--daemon-tlscert", "--daemon-tlskey")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options for the socket, the name and TLS."""
    parser.add_argument("--name", help="the plugin's name (default: the socket's, or py-DRIVER)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--socket", metavar="PATH", help="listen on this unix socket")
    where.add_argument(
        "--tcp", metavar="HOST:PORT", help="listen on TCP; beyond loopback only with TLS"
    )
    parser.add_argument("--group", help="a group, by name or number, that may call it besides root")
    tls = parser.add_argument_group("TLS, for --tcp (PEM files)")
    for option, meaning in (
        ("--tlscacert", "the certificate authority of both sides"),
        ("--tlscert", "the plugin's certificate"),
        ("--tlskey", "its key"),
        ("--daemon-tlscert", "the daemon's certificate"),
        ("--daemon-tlskey", "its key"),
    ):
        tls.add_argument(option, metavar="FILE", help=meaning)
    tls.add_argument(
        "--allow-plain-tcp",
        action="store_true",
        help="no TLS beyond loopback: whoever reaches the port can become root on this machine",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """The place where this process listens, and how a daemon finds it."""

    name: str
    """The plugin's name."""
    listener: Listener
    path: str = ""
    """The path of a unix socket."""
    daemon_tls: ClientTLS | None = None
    is_inherited: bool = False

    def __str__(self) -> str:
        return self.path or self.listener.address

    @property
    def state(self) -> str:
        """The name of the directory that keeps the daemon's Init."""
        from graphdriver.docker.state import state_name

        # By name, since the kernel may choose another port next time; systemd's unit has a fixed one.
        return state_name(self.listener, "" if self.is_inherited else self.name)

    @property
    def is_found_by_name(self) -> bool:
        """Whether a daemon finds the socket without a file in ``/etc/docker/plugins``."""
        found = f"{PLUGIN_SOCKETS}/{self.name}"
        return self.path in (f"{found}.sock", f"{found}/{self.name}.sock")

    @contextlib.contextmanager
    def announced(self) -> Iterator[None]:
        """Keep a file in ``/etc/docker/plugins`` for the length of a ``with`` block, if one is needed.

        systemd's socket stays when this process ends, and so must the file that names it: then the
        administrator writes the file, and a missing one is only reported.

        Raises:
            InUseError: see `graphdriver.docker.address.spec_files.SpecFile`.
        """
        if self.is_found_by_name:
            yield
        elif self.is_inherited:
            self._warn_if_not_found()
            yield
        else:
            from graphdriver.docker.address.spec_files import SpecFile

            with contextlib.closing(SpecFile(self.name, self.listener.address, self.daemon_tls)):
                yield

    def _warn_if_not_found(self) -> None:
        import logging

        from graphdriver.docker.address.discovery import PLUGIN_SPECS, find

        here = self.listener.address
        with contextlib.suppress(UnreachableError):
            if str(find(self.name)) == here:
                return
        file = f"{PLUGIN_SPECS}/{self.name}.{'json' if self.listener.tls else 'spec'}"
        logging.getLogger(__name__).warning(
            "no daemon finds %s by the name %s until %s names it", here, self.name, file
        )


def open_place(
    arguments: argparse.Namespace,
    inherited: socket.socket | None,
    default_name: Callable[[], str],
) -> Place:
    """Listen on the socket that the options name, or on the one that systemd passed.

    Args:
        arguments: the options of `configure`.
        inherited: the socket that systemd passed, if any.
        default_name: returns the plugin's name if neither the options nor the socket give one.

    Raises:
        MalformedRequestError: the options do not go together, or the name is not allowed.
        UnsupportedError: see the listeners, and `graphdriver.docker.address.tls`.
        InUseError: another process listens there.
    """
    if inherited is not None:
        return _inherited(arguments, inherited, default_name)
    if arguments.tcp is not None:
        return _tcp(arguments, default_name)
    return _unix(arguments, default_name)


def _unix(arguments: argparse.Namespace, default_name: Callable[[], str]) -> Place:
    _refuse(arguments, "a unix socket", *_OURS, *_DAEMONS, "--allow-plain-tcp")
    path = arguments.socket or ""
    if path and not path.startswith("/"):
        raise MalformedRequestError(f"--socket {path} is not an absolute path")
    name = _name(arguments, path, default_name)
    listener = UnixListener(path or name, group=arguments.group)
    return Place(name, listener, listener.path)


def _tcp(arguments: argparse.Namespace, default_name: Callable[[], str]) -> Place:
    _refuse(arguments, "--tcp", "--group")
    host, port = host_and_port("--tcp", arguments.tcp)
    name = _name(arguments, "", default_name)
    files = _files(arguments, *_OURS, *_DAEMONS)
    if not files:
        return Place(name, TCPListener(host, port, allow_plain=arguments.allow_plain_tcp))

    from graphdriver.docker.address.discovery import ClientTLS
    from graphdriver.docker.address.tls import client_side, expect_agreement, server_side

    _refuse(arguments, "TLS", "--allow-plain-tcp")
    authority, certificate, key, daemons_certificate, daemons_key = files
    plugin = server_side(authority, certificate, key)
    daemon = ClientTLS(authority, daemons_certificate, daemons_key)
    expect_agreement(plugin, client_side(daemon), dialled_host(host))
    return Place(name, TCPListener(host, port, tls=plugin), daemon_tls=daemon)


def _inherited(
    arguments: argparse.Namespace, inherited: socket.socket, default_name: Callable[[], str]
) -> Place:
    from graphdriver.docker.address.systemd import InheritedListener

    _refuse(arguments, "systemd's socket", "--socket", "--tcp", "--group", *_DAEMONS)
    if inherited.family == socket.AF_UNIX:
        _refuse(arguments, "a unix socket", *_OURS, "--allow-plain-tcp")
    tls = None
    if files := _files(arguments, *_OURS):
        from graphdriver.docker.address.tls import server_side

        _refuse(arguments, "TLS", "--allow-plain-tcp")
        tls = server_side(*files)
    listener = InheritedListener(inherited, tls=tls, allow_plain=arguments.allow_plain_tcp)
    name = _name(arguments, listener.path, default_name)
    return Place(name, listener, listener.path, is_inherited=True)


def _given(arguments: argparse.Namespace, option: str) -> str:
    """Return an option's value; empty if the option was not given."""
    return getattr(arguments, option.strip("-").replace("-", "_")) or ""


def _refuse(arguments: argparse.Namespace, what: str, *options: str) -> None:
    for option in options:
        if _given(arguments, option):
            raise MalformedRequestError(f"{option} does not go with {what}", hint="leave one out")


def _files(arguments: argparse.Namespace, *options: str) -> list[str]:
    """Return the absolute paths of these options; an empty list if none of them is given."""
    given = [_given(arguments, option) for option in options]
    if not any(given):
        return []
    missing = [option for option, path in zip(options, given, strict=True) if not path]
    if missing:
        raise MalformedRequestError(f"TLS needs {' and '.join(missing)} too")
    return [os.path.abspath(path) for path in given]


def host_and_port(option: str, text: str) -> tuple[str, int]:
    """Return the host and the port of an option's value; the host is empty for all addresses.

    Raises:
        MalformedRequestError: it has another form.
    """
    host, colon, port = text.rpartition(":")
    if not (colon and port.isdecimal() and port.isascii() and int(port) < 1 << 16):
        raise MalformedRequestError(
            f"{option} {text} is not of the form HOST:PORT",
            hint="write 127.0.0.1:2377, or [::1]:2377",
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _name(arguments: argparse.Namespace, path: str, default_name: Callable[[], str]) -> str:
    name = arguments.name
    if name is None:
        name = os.path.basename(path).removesuffix(".sock") if path else default_name()
    expect_name(name)
    return str(name)


def expect_name(name: str) -> None:
    """Check the name of a plugin.

    Raises:
        MalformedRequestError: a plugin cannot have it, or a daemon would take its own driver for it.
    """
    if name in BUILT_IN:
        raise MalformedRequestError(
            f"{name} is one of Docker's own drivers: a daemon would use that one and never call this"
            " plugin",
            hint=f"choose another name, such as py-{name}",
        )
    if _NAME.fullmatch(name) is None:
        raise MalformedRequestError(
            f"{name!r} cannot be a plugin's name", hint="use letters, digits, '_', '.' and '-'"
        )
