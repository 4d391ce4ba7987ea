"""Where a plugin listens: unix sockets and TCP, and cleaning up after them.

A listener is bound by its constructor and imports nothing slow, so that a daemon's first dial finds
it while the rest of the program still loads. It removes on `close` what it made, and only if that is
still what it made.
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
    """What a server accepts connections from."""

    @property
    def socket(self) -> socket.socket:
        """The bound, listening socket."""
        ...

    @property
    def address(self) -> str:
        """Where it listens, as a daemon's spec file says it: ``unix:///…``, ``tcp://…``, ``https://…``."""
        ...

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What to wrap accepted connections in."""
        ...

    def refuse(self) -> None:
        """Let nobody connect any more, if that is ours to say; who has connected can be accepted."""
        ...

    def close(self) -> None:
        """Stop listening, and remove what was made for it. May be repeated."""
        ...


class UnixListener:
    """A unix socket.

    A stale socket in its place is replaced, a live one is refused. The socket is given its group and
    mode before it listens, so nobody connects under other ones.

    Args:
        address: a plugin's name, for ``/run/docker/plugins/NAME.sock``, or an absolute path.
        group: who besides root may connect: a name or a gid; root's own group if not given.
        mode: the socket's permissions.

    Raises:
        InUseError: somebody listens there.
        UnsupportedError: the path is too long or holds something else; its directory does not
            exist; the group is not known.
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
        folder = os.path.dirname(self.path)
        _expect_directory(self.path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with locked(folder):
                _clear_stale(self.path)
                self.socket.bind(self.path)
                made = os.lstat(self.path)
                self._made = made.st_dev, made.st_ino
                os.chown(self.path, -1, gid, follow_symlinks=False)
                os.chmod(self.path, mode)
                self.socket.listen(_BACKLOG)
        except BaseException:
            self.socket.close()
            raise

    @property
    def address(self) -> str:
        """The address as a spec file says it."""
        return unix_address(self.path)

    def refuse(self) -> None:
        """Let nobody connect any more; who has connected can be accepted."""
        self.socket.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Stop listening and remove the socket, if it is still ours; never raises.

        What is left is found to be stale by the next one that listens there.
        """
        self.socket.close()
        try:
            above = os.path.dirname(self.path)
            with contextlib.suppress(FileNotFoundError), locked(above, TIMEOUT_AT_STOP):
                now = os.lstat(self.path)
                if (now.st_dev, now.st_ino) == self._made:
                    os.unlink(self.path)
        except (GraphDriverError, OSError) as error:  # the rest of a stop must go on
            _log.warning("leaving the socket %s: %s", self.path, error)


class TCPListener:
    """A TCP socket, with TLS where an `ssl.SSLContext` is given.

    Args:
        host: the address to listen on; empty for all of this machine's.
        port: likewise; 0 lets the kernel choose.
        tls: the plugin's side of TLS, see `graphdriver.docker.address.tls`.
        allow_plain: serve beyond loopback without TLS: whoever reaches the port is root here.

    Raises:
        UnsupportedError: plain TCP beyond loopback was not allowed; there is no such address here.
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
        """The address as a spec file says it, with the host that was asked for."""
        return tcp_address(self._host, self.port, tls=self.tls is not None)

    def refuse(self) -> None:
        """Do nothing: to a TCP socket it would also be to drop who has connected."""

    def close(self) -> None:
        """Stop listening."""
        self.socket.close()


def unix_address(path: str) -> str:
    """Return a socket's path as the URL that a spec file holds."""
    from urllib.parse import quote

    return f"unix://{quote(os.fsencode(path))}"


def tcp_address(host: str, port: int, *, tls: bool) -> str:
    """Return the URL that a spec file on this machine holds."""
    dialled = dialled_host(host)
    named = f"[{dialled}]" if ":" in dialled else dialled
    return f"{'https' if tls else 'tcp'}://{named}:{port}"


def dialled_host(host: str) -> str:
    """Return what a daemon on this machine dials: the host, or loopback where all addresses will do."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def refuse_beyond_loopback(address: str) -> None:
    """Raise what is raised for plain TCP on an address that is not this machine's alone.

    Raises:
        UnsupportedError: it can be reached from elsewhere.
    """
    if not (address.startswith("127.") or address == "::1"):
        raise UnsupportedError(
            f"{address} can be reached from other machines, and without TLS anybody who can reach"
            " it is root here",
            hint="use TLS with client certificates, or listen on 127.0.0.1",
        )


def ready_for_calls(listening: socket.socket) -> None:
    """Set on a TCP socket what each connection that it accepts shall have.

    Small answers go at once, instead of waiting for the caller's acknowledgement of the last one; a
    caller whose machine died is found out in the end.
    """
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _expect_directory(path: str) -> None:
    """Make Docker's directory of sockets if it is missing, with Docker's modes; no other is made."""
    directory = os.path.dirname(path)
    if os.path.realpath(directory) == PLUGIN_SOCKETS:
        make_directories(os.path.dirname(PLUGIN_SOCKETS), 0o700)
        make_directories(PLUGIN_SOCKETS, 0o755)
    elif not os.path.isdir(directory):
        raise UnsupportedError(
            f"cannot listen on {path}: there is no directory {directory}",
            hint="check the path, or make the directory, such that only root can write to it",
        )


def _clear_stale(path: str) -> None:
    if not os.path.lexists(path):
        return
    refuse_other(path, follow=False)
    try:
        in_use = has_listener(path)
    except OSError as error:
        raise GraphDriverError(f"cannot tell who owns {path}: {error.strerror}") from error
    if not in_use:
        os.unlink(path)
        return
    raise InUseError(
        f"another process listens on {path}", hint="stop it first, or choose another name"
    )
