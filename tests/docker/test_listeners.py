"""Sockets: whose they are, who may reach them, what may be replaced, what is left behind."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterator

import pytest

from graphdriver import TCPListener, UnixListener
from graphdriver.docker.address import listeners
from graphdriver.docker.address.discovery import Address
from graphdriver.errors import InUseError, UnsupportedError


@pytest.fixture
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="gd-") as path:
        yield path


def test_a_socket_has_its_mode_and_group_and_goes_at_the_end(folder: str) -> None:
    path = f"{folder}/p.sock"
    listener = UnixListener(path, group=12345)
    made = os.stat(path)
    assert stat.S_IMODE(made.st_mode) == 0o660
    assert made.st_gid == 12345
    listener.close()
    assert os.listdir(folder) == []
    listener.close()


def test_a_directory_that_is_missing_is_not_made(folder: str) -> None:
    with pytest.raises(UnsupportedError, match=f"the directory {folder}/mistyped does not exist"):
        UnixListener(f"{folder}/mistyped/p.sock")
    assert os.listdir(folder) == []


def test_dockers_own_directory_is_made_with_dockers_modes(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "PLUGIN_SOCKETS", f"{folder}/docker/plugins")
    before = os.umask(0)
    try:
        UnixListener("p").close()
    finally:
        os.umask(before)
    modes = [
        stat.S_IMODE(os.stat(f"{folder}/{one}").st_mode) for one in ("docker", "docker/plugins")
    ]
    assert modes == [0o700, 0o755]


def test_a_stale_socket_is_replaced(folder: str) -> None:
    path = f"{folder}/p.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(path)
    UnixListener(path).close()


def test_a_live_socket_is_refused(folder: str) -> None:
    path = f"{folder}/p.sock"
    listener = UnixListener(path)
    with pytest.raises(InUseError, match="another process listens"):
        UnixListener(path)
    assert os.path.exists(path)
    listener.close()


def test_what_is_no_socket_is_left_alone(folder: str) -> None:
    path = f"{folder}/p.sock"
    with open(path, "w") as file:
        file.write("mine")
    with pytest.raises(UnsupportedError, match="not a socket"):
        UnixListener(path)
    with open(path) as file:
        assert file.read() == "mine"


def test_a_socket_that_somebody_else_put_there_is_not_removed(folder: str) -> None:
    path = f"{folder}/p.sock"
    listener = UnixListener(path)
    os.unlink(path)
    other = UnixListener(path)
    listener.close()
    assert os.path.exists(path)
    other.close()


def test_a_path_of_108_bytes_is_a_clear_error(folder: str) -> None:
    path = f"{folder}/" + "x" * (108 - len(folder) - 1)
    with pytest.raises(UnsupportedError, match=r"has 108 bytes.*room for 107"):
        UnixListener(path)
    UnixListener(path[:107]).close()


def test_an_unknown_group_is_a_clear_error(folder: str) -> None:
    with pytest.raises(UnsupportedError, match="no group nobody-here"):
        UnixListener(f"{folder}/p.sock", group="nobody-here")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("step", ["chown", "chmod"])
def test_a_socket_that_cannot_be_set_up_is_not_left_there(
    step: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: object, *_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

    monkeypatch.setattr(os, step, refused)
    with pytest.raises(PermissionError):
        UnixListener(f"{folder}/p.sock")
    assert os.listdir(folder) == []


def test_plain_tcp_beyond_loopback_is_refused_unless_forced() -> None:
    for host in ("127.0.0.1", "127.3.2.1", "localhost", "::1"):
        TCPListener(host, 0).close()
    for host in ("0.0.0.0", "", "::", "::ffff:127.0.0.1"):
        with pytest.raises(UnsupportedError, match="anybody who can reach"):
            TCPListener(host, 0)
        TCPListener(host, 0, allow_plain=True).close()


def test_a_port_that_cannot_be_had_is_a_clear_error() -> None:
    listener = TCPListener("127.0.0.1", 0)
    with pytest.raises(InUseError, match=f"127.0.0.1:{listener.port}: Address already in use"):
        TCPListener("127.0.0.1", listener.port)
    listener.close()
    with pytest.raises(UnsupportedError, match=r"192\.0\.2\.1:1: Cannot assign"):
        TCPListener("192.0.2.1", 1, allow_plain=True)
    with pytest.raises(UnsupportedError, match=r"no-such-host\.invalid:1: "):
        TCPListener("no-such-host.invalid", 1)


@pytest.mark.parametrize(
    ("host", "dialled"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("::1", "[::1]"),
        ("", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
    ],
)
def test_a_daemon_on_this_machine_is_told_an_address_that_it_can_dial(
    host: str, dialled: str
) -> None:
    listener = TCPListener(host, 0, allow_plain=True)
    try:
        assert listener.address == f"tcp://{dialled}:{listener.port}"
        found = Address.parse(listener.address)
        socket.create_connection((found.host, found.port), timeout=60).close()
    finally:
        listener.close()


def test_small_answers_go_out_at_once_and_dead_callers_are_found_out() -> None:
    listener = TCPListener("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", listener.port), timeout=60):
        accepted, _ = listener.socket.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    listener.close()
