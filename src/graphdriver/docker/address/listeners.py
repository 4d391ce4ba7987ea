"""Listeners: unix sockets and TCP, and their removal.

The constructor binds the socket, and this module imports nothing slow, so that a daemon can connect
while the rest of the program is still loaded. `close` removes the socket only if it is still the one
that the constructor made.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from typing import TYPE_CHECKING, Protocol

from graphdriver.errors import GraphDriverError, InUseError, UnsupportedError
from graphdriver.files.directories import make_directories
from graphdriver.files.path_lock import TIMEOUT_AT_STOP, locked
from graphdriver.linux.unix_sockets import LONGEST_PATH, has_listener, refuse_other
from graphdriver.serving.process import group_id

if TYPE_CHECKING:
    import ssl

PLUGIN_SOCKETS = "/run/docker/plugins"
"""Where Docker looks for the sockets of plugins."""

_BACKLOG = 512

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """A socket on which a server accepts connections."""

    @property
    def socket(self) -> socket.socket:
        """The bound, listening socket."""
        ...

    @property
    def address(self) -> str:
        """The address for a spec file: ``unix:///…``, ``tcp://…`` or ``https://…``."""
        ...

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The plugin's side of TLS for accepted connections; None without TLS."""
        ...

    def refuse(self) -> None:
        """Reject new callers, if the socket is ours; those in the queue can still be accepted."""
        ...

    def close(self) -> None:
        """Stop listening and remove the socket if it is ours; may be repeated."""
        ...


class UnixListener:
    """A unix socket.

    A stale socket at its path is replaced; one that is served is an error.

    Args:
        address: a plugin's name, for ``/run/docker/plugins/NAME.sock``, or an absolute path.
        group: a group that may connect, as a name or gid; by default root's own group.
        mode: the socket's permissions.

    Raises:
        InUseError: another process listens there.
        UnsupportedError: the path is too long or is not a socket; its directory or the group does
            not exist.
    """

    tls = None

    def __init__(self, address: str, *, group: str | int | None = None, mode: int = 0o660) -> None:
        self.path = address if address.startswith("/") else f"{PLUGIN_SOCKETS}/{address}.sock"
        length = len(os.fsencode(self.path))
        if length > LONGEST_PATH:
            raise UnsupportedError(
                f"the socket path {self.path} has {length} bytes, and unix sockets have room for"
                f" {LONGEST_PATH}",
                hint="choose a shorter one",
            )
        gid = group_id(group)
        directory = os.path.dirname(self.path)
        _expect_directory(self.path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Without the lock, two plugins that start at once could each remove the other's socket.
            with locked(directory):
                _clear_stale(self.path)
                self.socket.bind(self.path)
                try:
                    made = os.lstat(self.path)
                    self._made = made.st_dev, made.st_ino
                    # Group and mode before listen(2): until then no process can connect.
                    os.chown(self.path, -1, gid, follow_symlinks=False)
                    os.chmod(self.path, mode)
                    self.socket.listen(_BACKLOG)
                except BaseException:
                    os.unlink(self.path)
                    raise
        except BaseException:
            self.socket.close()
            raise

    @property
    def address(self) -> str:
        """The address for a spec file."""
        return unix_address(self.path)

    def refuse(self) -> None:
        """Reject new callers; those in the queue can still be accepted."""
        self.socket.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Stop listening and remove the socket, if it is still ours; never raises.

        A socket that stays is stale, and the next process that listens there replaces it.
        """
        self.socket.close()
        try:
            above = os.path.dirname(self.path)
            with contextlib.suppress(FileNotFoundError), locked(above, TIMEOUT_AT_STOP):
                # The next process may have replaced it already.
                now = os.lstat(self.path)
                if (now.st_dev, now.st_ino) == self._made:
                    os.unlink(self.path)
        except (GraphDriverError, OSError) as error:  # the stop must go on
            _log.warning("leaving the socket %s: %s", self.path, error)


class TCPListener:
    """A TCP socket, with TLS where an `ssl.SSLContext` is given.

    Args:
        host: the address to listen on; empty for all addresses of this machine.
        port: the port; with 0 the kernel chooses one.
        tls: the plugin's side of TLS, see `graphdriver.docker.address.tls`.
        allow_plain: allow addresses beyond loopback without TLS: any caller of the port is root here.

    Raises:
        UnsupportedError: plain TCP beyond loopback is not allowed; this machine has no such address.
        InUseError: the port is taken.
    """

    def __init__(
        self, host: str, port: int, *, tls: ssl.SSLContext | None = None, allow_plain: bool = False
    ) -> None:
        try:
            family, _, _, _, address = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except OSError as error:
            raise UnsupportedError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        if tls is None and not allow_plain:
            refuse_beyond_loopback(str(address[0]))
        self.tls = tls
        self._host = host
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(address)
            ready_for_calls(self.socket)
            self.socket.listen(_BACKLOG)
        except OSError as error:
            self.socket.close()
            kind = InUseError if error.errno == errno.EADDRINUSE else UnsupportedError
            raise kind(f"cannot listen on {host}:{port}: {error.strerror}") from error
        self.port = self.socket.getsockname()[1]

    @property
    def address(self) -> str:
        """The address for a spec file, with the host from the constructor."""
        return tcp_address(self._host, self.port, tls=self.tls is not None)

    def refuse(self) -> None:
        """Do nothing: a shutdown of a TCP socket would also drop the callers in its queue."""

    def close(self) -> None:
        """Stop listening."""
        self.socket.close()


def unix_address(path: str) -> str:
    """Return a socket's path as the URL for a spec file."""
    from urllib.parse import quote

    return f"unix://{quote(os.fsencode(path))}"


def tcp_address(host: str, port: int, *, tls: bool) -> str:
    """Return the URL for a spec file on this machine."""
    dialled = dialled_host(host)
    named = f"[{dialled}]" if ":" in dialled else dialled
    return f"{'https' if tls else 'tcp'}://{named}:{port}"


def dialled_host(host: str) -> str:
    """Return what a daemon on this machine connects to: the host, or loopback for all addresses."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can reach an IP address."""
    return address.startswith("127.") or address == "::1"


def refuse_beyond_loopback(address: str) -> None:
    """Reject an address for plain TCP that other machines can reach.

    Raises:
        UnsupportedError: it is not a loopback address.
    """
    if not is_loopback(address):
        raise UnsupportedError(
            f"{address} can be reached from other machines, and without TLS anybody who can reach"
            " it is root here",
            hint="use TLS with client certificates, or listen on 127.0.0.1",
        )


def ready_for_calls(listening: socket.socket) -> None:
    """Set the options of a TCP socket that accepted connections inherit.

    With TCP_NODELAY a small response does not wait until the caller acknowledges the last one. With
    SO_KEEPALIVE a connection to a machine that died ends after some time.
    """
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _expect_directory(path: str) -> None:
    """Make Docker's directory of sockets, with Docker's modes; any other directory must exist."""
    directory = os.path.dirname(path)
    if os.path.realpath(directory) == PLUGIN_SOCKETS:
        make_directories(os.path.dirname(PLUGIN_SOCKETS), 0o700)
        make_directories(PLUGIN_SOCKETS, 0o755)
    elif not os.path.isdir(directory):
        raise UnsupportedError(
            f"cannot listen on {path}: the directory {directory} does not exist",
            hint="check the path, or make the directory, writable by root only",
        )


def _clear_stale(path: str) -> None:
    if not os.path.lexists(path):
        return
    refuse_other(path, follow=False)
    try:
        in_use = has_listener(path)
    except OSError as error:
        raise GraphDriverError(f"cannot tell whether {path} is in use: {error.strerror}") from error
    if not in_use:
        os.unlink(path)
        return
    raise InUseError(
        f"another process listens on {path}", hint="stop it first, or choose another name"
    )
