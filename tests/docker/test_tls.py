"""TLS: who is served, who is refused, and that nobody who is refused holds anything up."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import re
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphdriver import Client, Handler, Server, TCPListener
from graphdriver.docker.address.discovery import Address, ClientTLS
from graphdriver.docker.address.tls import client_side, expect_agreement, server_side
from graphdriver.docker.http import requests
from graphdriver.docker.http import server as server_module
from graphdriver.docker.http.connection import Connection
from graphdriver.errors import GraphDriverError, RemoteError, UnreachableError, UnsupportedError
from graphdriver.layer.erofs.stored_tar import AT_ONCE, PIECE, PieceSums, StoredTar
from tests.docker.conftest import connections
from tests.support.certificates import Certificates, make
from tests.support.long import times
from tests.support.tarbox import TarBox
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The authority that the plugin trusts."""
    return make(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Another authority, with certificates that say the same."""
    return make(tmp_path_factory.mktemp("tls") / "others")


class Served:
    """A driver behind TLS."""

    def __init__(self, folder: Path, certificates: Certificates, port: int = 0) -> None:
        self.home = str(folder / "home")
        self.box = TarBox()
        self.certificates = certificates
        listener = TCPListener("127.0.0.1", port, tls=server_side(*certificates.plugin))
        self.port = listener.port
        self.server = Server(Handler(self.box), [listener])
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def stop(self) -> None:
        self.server.stop()
        self.thread.join()
        self.server.close()

    def client(self, tls: ClientTLS | None) -> Client:
        return Client(Address(host="127.0.0.1", port=self.port, tls=tls), timeout=60)

    def dial(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def dial_tls(self) -> ssl.SSLSocket:
        side = client_side(self.certificates.daemon)
        return side.wrap_socket(self.dial(), server_hostname="127.0.0.1")


@pytest.fixture
def served(ours: Certificates) -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="gd-") as folder:
        one = Served(Path(folder), ours)
        try:
            yield one
        finally:
            one.stop()


def test_a_stored_tar_is_encrypted_as_all_else_is(served: Served, tmp_path: Path) -> None:
    data = os.urandom(PIECE + AT_ONCE + 1)
    sums = PieceSums()
    sums.add(data)
    (tmp_path / "tar").write_bytes(data)

    def diff(id: str, parent: str) -> StoredTar:
        fd = os.open(tmp_path / "tar", os.O_RDONLY)
        return StoredTar(fd, 0, len(data), sums.sums(), is_local=True)

    served.box.diff = diff  # type: ignore[method-assign]
    with served.client(served.certificates.daemon) as client:
        client.init(served.home, [], [], [])
        client.create("a", "", "", {})
        with contextlib.closing(client.diff("a", "")) as stream:
            assert b"".join(iter(lambda: stream.read(100_000), b"")) == data


def test_who_shows_a_certificate_of_the_authority_is_served(served: Served) -> None:
    tar = bytes(range(256)) * 20_000
    with served.client(served.certificates.daemon) as client:
        client.init(served.home, [], [], [])
        client.create("a", "", "", {})
        assert client.apply_diff("a", "", io.BytesIO(tar)) == len(tar)
        stream = client.diff("a", "")
        with contextlib.closing(stream):
            assert b"".join(iter(lambda: stream.read(100_000), b"")) == tar
        with pytest.raises(RemoteError, match="create top: parent 91aa does not exist"):
            client.create("top", "91aa", "", {})
        assert client.exists("a")
        assert connections() == 1  # all on one connection, used again


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_shows_none_or_anothers_is_refused(
    served: Served, others: Certificates, version: ssl.TLSVersion
) -> None:
    def answer(files: ClientTLS) -> bytes:
        side = client_side(files)
        side.maximum_version = version
        # With TLS 1.3 who dials believes that it is in, until it reads.
        with (
            contextlib.suppress(OSError),
            served.dial() as connection,
            side.wrap_socket(connection, server_hostname="127.0.0.1") as secured,
        ):
            secured.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            return secured.recv(100)
        return b""

    mine = served.certificates.daemon
    stranger = dataclasses.replace(others.daemon, ca_file=mine.ca_file)
    assert answer(mine).startswith(b"HTTP/1.1 200 OK")
    for files in (ClientTLS(mine.ca_file), stranger):
        assert answer(files) == b""
        with served.client(files) as client, pytest.raises(UnreachableError, match="not answer"):
            client.init(served.home, [], [], [])
    assert served.box.inits == []


def test_a_connection_has_one_buffer(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(size: int) -> bytearray:
        made.append(size)
        return bytearray(size)

    monkeypatch.setattr(requests, "bytearray", counted, raising=False)
    with served.dial_tls() as connection:
        connection.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
    assert len(made) == 1


def test_who_speaks_no_tls_is_refused(served: Served) -> None:
    with served.client(None) as client, pytest.raises(UnreachableError, match="not answer"):
        client.init(served.home, [], [], [])
    assert served.box.inits == []


def test_a_plugin_of_another_authority_or_host_is_not_believed(
    served: Served, others: Certificates, tmp_path: Path
) -> None:
    mine = served.certificates.daemon
    trusts_others = served.client(dataclasses.replace(mine, ca_file=others["ca"]))
    dials_a_name = Client(Address(host="localhost", port=served.port, tls=mine), timeout=60)
    for refusing, said in (
        (trusts_others, "certificate verify failed"),
        (dials_a_name, "ostname mismatch"),
    ):
        with refusing as client, pytest.raises(UnreachableError, match=said):
            client.activate()
    unverified = dataclasses.replace(mine, ca_file="", verify=False)
    with served.client(unverified) as client:
        assert client.activate() == ("GraphDriver",)


def test_versions_before_1_2_are_refused(served: Served) -> None:
    for version, accepted in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        side = client_side(served.certificates.daemon)
        side.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning) if not accepted else contextlib.nullcontext():
            side.minimum_version = side.maximum_version = version
        with served.dial() as connection:
            refused = pytest.raises(ssl.SSLError, match="alert protocol version")
            with contextlib.nullcontext() if accepted else refused:
                side.wrap_socket(connection, server_hostname="127.0.0.1").close()


@pytest.mark.parametrize(
    ("cipher", "accepted"),
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", True),
        ("ECDHE-ECDSA-AES256-SHA384", False),  # CBC
        ("ECDHE-ECDSA-AES128-SHA", False),
        ("AES128-GCM-SHA256:AES256-SHA256", False),  # no forward secrecy
        ("aNULL:eNULL:@SECLEVEL=0", False),
    ],
)
def test_weak_ciphers_of_tls_1_2_are_refused(served: Served, cipher: str, accepted: bool) -> None:
    side = client_side(served.certificates.daemon)
    side.maximum_version = ssl.TLSVersion.TLSv1_2
    side.set_ciphers(cipher)
    refused = pytest.raises(ssl.SSLError, match="handshake failure")
    with served.dial() as connection, contextlib.nullcontext() if accepted else refused:
        side.wrap_socket(connection, server_hostname="127.0.0.1").close()


def test_neither_side_offers_more_than_it_needs(ours: Certificates) -> None:
    plugin, daemon = server_side(*ours.plugin), client_side(ours.daemon)
    for side in (plugin, daemon):
        assert side.minimum_version is ssl.TLSVersion.TLSv1_2
        assert side.verify_mode is ssl.CERT_REQUIRED
        assert side.options & ssl.OP_NO_COMPRESSION
        assert all("ECDHE" in one["name"] or "TLS_" in one["name"] for one in side.get_ciphers())
    assert plugin.options & ssl.OP_NO_RENEGOTIATION
    assert daemon.check_hostname
    # The authorities of the machine are no authorities here.
    assert len(plugin.get_ca_certs()) == len(daemon.get_ca_certs()) == 1


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
"""The beginning of a handshake."""


def test_a_handshake_that_stalls_holds_nobody_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "HANDSHAKE_TIMEOUT", 600.0)
    with served.dial(), served.dial() as slow:
        slow.sendall(HELLO[:1])
        wait_until(lambda: connections() == 2)
        with served.client(served.certificates.daemon) as client:
            assert client.activate() == ("GraphDriver",)


def test_a_handshake_that_stalls_is_given_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "HANDSHAKE_TIMEOUT", 1.0)
    with served.dial() as silent, served.dial() as slow:
        # A byte now and then is no reason to wait longer.
        with contextlib.suppress(ConnectionError):
            for n in range(len(HELLO)):
                slow.sendall(HELLO[n : n + 1])
                time.sleep(0.05)
            pytest.fail("a handshake went on as long as a byte came now and then")
        assert silent.recv(1) == b""
    wait_until(lambda: connections() == 0)


def test_no_more_than_so_many_shake_hands_at_a_time(
    ours: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_HANDSHAKES", 3)
    monkeypatch.setattr(server_module, "HANDSHAKE_TIMEOUT", 600.0)
    served = Served(tmp_path, ours)
    try:
        with served.client(ours.daemon) as inside, contextlib.ExitStack() as stalled:
            assert inside.activate() == ("GraphDriver",)
            taken = [stalled.enter_context(served.dial()) for _ in range(3)]
            wait_until(lambda: connections() == 4)
            for _ in range(20):
                with served.dial() as turned_away:
                    assert turned_away.recv(1) == b""
            assert connections() == 4
            assert inside.activate() == ("GraphDriver",)  # who is in stays in
            taken[0].close()
            wait_until(lambda: connections() == 3)
            with served.client(ours.daemon) as client:
                assert client.activate() == ("GraphDriver",)
    finally:
        served.stop()


def test_a_stop_ends_a_handshake_that_is_under_way(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "HANDSHAKE_TIMEOUT", 600.0)
    monkeypatch.setattr(server_module, "GRACE", 60.0)
    with served.dial():
        wait_until(lambda: connections() == 1)
        served.stop()
    assert connections() == 0
    assert "cut off" not in caplog.text


def test_a_stop_ends_idle_connections_and_lets_a_call_end(served: Served) -> None:
    with served.client(served.certificates.daemon) as client:
        client.init(served.home, [], [], [])
        client.create("a", "", "", {})
        with served.dial_tls() as connection:
            connection.sendall(
                b"POST /GraphDriver.ApplyDiff?id=a&parent= HTTP/1.1\r\nHost:\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
            )
            wait_until(lambda: ("apply_diff", "a", "") in served.box.calls)
            stopper = threading.Thread(target=served.stop)
            stopper.start()
            wait_until(lambda: connections() == 1)  # the idle one is gone
            connection.sendall(b"0\r\n\r\n")
            assert b'{"Size":5}' in connection.recv(4096)
            stopper.join(60)
            assert not stopper.is_alive()


def test_a_stop_that_comes_with_a_call_does_not_make_the_answer_go_out_in_the_clear(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_busy = Connection._set_busy

    def after_a_stop(self: Connection, busy: bool) -> None:
        if busy:
            self.finish()
        become_busy(self, busy)

    monkeypatch.setattr(Connection, "_set_busy", after_a_stop)
    with served.client(served.certificates.daemon) as client:
        assert client.activate() == ("GraphDriver",)


def test_who_is_refused_reads_why_although_more_was_sent(served: Served) -> None:
    with served.dial_tls() as connection:
        connection.sendall(b"this is no HTTP\r\n\r\n" + bytes(1 << 20))
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'{"Err":"' in answer


def cut(connection: ssl.SSLSocket) -> None:
    socket.socket.shutdown(connection, socket.SHUT_WR)


def end_politely(connection: ssl.SSLSocket) -> None:
    connection.settimeout(0)
    with pytest.raises(ssl.SSLError):  # the other side's farewell is not waited for
        connection.unwrap()
    cut(connection)


def send_garbage(connection: ssl.SSLSocket) -> None:
    socket.socket.sendall(connection, b"\x17\x03\x03\x00\x20" + bytes(32))


@pytest.mark.parametrize("ending", [cut, end_politely, send_garbage])
def test_a_body_that_ends_early_in_any_way_is_a_broken_one(
    served: Served,
    ending: Callable[[ssl.SSLSocket], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with served.client(served.certificates.daemon) as client:
        client.init(served.home, [], [], [])
        client.create("a", "", "", {})
        with served.dial_tls() as connection:
            connection.sendall(
                b"POST /GraphDriver.ApplyDiff?id=a&parent= HTTP/1.1\r\nHost:\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
            )
            wait_until(lambda: ("apply_diff", "a", "") in served.box.calls)
            ending(connection)
            wait_until(lambda: connections() == 1)
        with pytest.raises(RemoteError, match="transfer did not finish"):
            client.get("a", "")
    assert "ApplyDiff a: the " in caplog.text
    assert logging.ERROR not in {record.levelno for record in caplog.records}


def close(connection: ssl.SSLSocket) -> None:
    connection.close()


def end_politely_and_close(connection: ssl.SSLSocket) -> None:
    connection.settimeout(0)
    with contextlib.suppress(ssl.SSLError):  # the other side's farewell is not waited for
        connection.unwrap()
    connection.close()


def reset(connection: ssl.SSLSocket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("way", [close, end_politely_and_close, reset])
@pytest.mark.parametrize("is_read", [False, True], ids=["never read", "read"])
def test_a_get_whose_answer_cannot_be_delivered_is_undone_and_no_other(
    served: Served, way: Callable[[ssl.SSLSocket], None], is_read: bool
) -> None:
    with served.client(served.certificates.daemon) as client:
        client.init(served.home, [], [], [])
        client.create("a", "", "", {})
    wait_until(lambda: connections() == 0)
    connection = served.dial_tls()
    # The tickets that TLS sends behind a handshake are read with this: what is unread resets.
    connection.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\n\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")
    served.box.pause.clear()
    get = b'POST /GraphDriver.Get HTTP/1.1\r\nHost:\r\nContent-Length: 10\r\n\r\n{"ID":"a"}'
    connection.sendall(get)
    wait_until(lambda: served.box.inside.get("a"))
    if is_read:
        served.box.pause.set()
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")
    way(connection)
    served.box.pause.set()
    wait_until(lambda: connections() == 0)
    assert served.box.held["a"] == int(is_read)


def test_both_sides_are_tried_on_each_other_before_a_daemon_comes(
    ours: Certificates, others: Certificates, tmp_path: Path
) -> None:
    plugin, daemon = server_side(*ours.plugin), client_side(ours.daemon)
    expect_agreement(plugin, daemon, "127.0.0.1")
    with pytest.raises(
        UnsupportedError,
        match=r"the daemon, which connects to 10\.0\.0\.1, would reject the plugin's certificate:"
        r" IP address mismatch",
    ):
        expect_agreement(plugin, daemon, "10.0.0.1")
    stranger = dataclasses.replace(others.daemon, ca_file=ours["ca"])
    with pytest.raises(UnsupportedError, match="the plugin would reject the daemon's certificate"):
        expect_agreement(plugin, client_side(stranger), "127.0.0.1")
    swapped = ClientTLS(ours["ca"], ours["plugin"], ours["plugin-key"])
    with pytest.raises(UnsupportedError, match="the daemon's certificate: unsuitable certificate"):
        expect_agreement(plugin, client_side(swapped), "127.0.0.1")
    named = make(tmp_path / "named", "DNS:plugin.example")
    expect_agreement(server_side(*named.plugin), client_side(named.daemon), "plugin.example")


@settings(
    max_examples=times(gate=20, long=300),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.binary(max_size=300)
    | st.binary(max_size=60).map(lambda rest: b"\x16\x03\x01" + len(rest).to_bytes(2, "big") + rest)
)
def test_no_bytes_at_all_stop_the_plugin_or_leave_anything_open(
    served: Served, sent: bytes
) -> None:
    is_served(served)  # what a server opens for its first caller is open
    before = len(os.listdir("/proc/self/fd"))
    with served.dial() as connection, contextlib.suppress(OSError):
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
    wait_until(lambda: connections() == 0)
    wait_until(lambda: len(os.listdir("/proc/self/fd")) == before)
    is_served(served)


def is_served(served: Served) -> None:
    with served.client(served.certificates.daemon) as client:
        assert client.activate() == ("GraphDriver",)
    wait_until(lambda: connections() == 0)


def test_who_has_sent_all_may_say_so_and_still_reads_the_answer(served: Served) -> None:
    with served.client(served.certificates.daemon) as client:
        client.init(served.home, [], [], [])
    served.box.pause.clear()
    with served.dial_tls() as connection:
        create = (
            b'POST /GraphDriver.Create HTTP/1.1\r\nHost:\r\nContent-Length: 10\r\n\r\n{"ID":"a"}'
        )
        connection.sendall(create)
        wait_until(lambda: served.box.inside.get("a"))
        end_politely(connection)
        served.box.pause.set()
        connection.settimeout(60)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"{}")


def test_a_client_notices_that_the_plugin_was_restarted(ours: Certificates, tmp_path: Path) -> None:
    first = Served(tmp_path, ours)
    with first.client(ours.daemon) as client:
        assert client.activate() == ("GraphDriver",)
        first.stop()
        second = Served(tmp_path, ours, first.port)
        try:
            assert client.activate() == ("GraphDriver",)
        finally:
            second.stop()


def test_files_that_will_not_do_are_named_with_the_reason(
    ours: Certificates, others: Certificates, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    locked = tmp_path / "locked.pem"
    command = ["openssl", "ec", "-aes128", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run([*command, "-in", ours["plugin-key"]], check=True, capture_output=True)
    ca, certificate, key = ours.plugin
    for files, said in (
        (("/nowhere.pem", certificate, key), "/nowhere.pem: No such file"),
        ((str(empty), certificate, key), "empty.pem: no certificate"),
        ((ca, "/nowhere.pem", key), "/nowhere.pem and its key .* No such file"),
        ((ca, certificate, others["plugin-key"]), "cannot be used: key values mismatch"),
        ((ca, certificate, str(locked)), "locked.pem has a passphrase"),
    ):
        with pytest.raises(UnsupportedError, match=said):
            server_side(*files)


def test_an_https_address_alone_means_the_machines_own_authorities() -> None:
    address = Address.parse("https://127.0.0.1:1")
    assert address.tls == ClientTLS()
    with Client(address) as client, pytest.raises(GraphDriverError, match="refused"):
        client.activate()


def test_a_plugin_that_answers_a_byte_now_and_then_is_not_waited_for(ours: Certificates) -> None:
    """With TLS as without: one deadline for the whole response."""
    stopped = threading.Event()

    def drip(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with server_side(*ours.plugin).wrap_socket(accepted, server_side=True) as connection:
            connection.recv(1 << 16)
            with contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not stopped.wait(0.05):
                    connection.sendall(b"a")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        address = Address(host="127.0.0.1", port=listener.getsockname()[1], tls=ours.daemon)
        outcome: list[BaseException] = []

        def ask() -> None:
            with Client(address, timeout=0.5) as client:
                try:
                    client.ask("status")
                except UnreachableError as error:
                    outcome.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        asking.join(60)
        stopped.set()
        asking.join()
        thread.join()
    assert re.search("did not end in time|timed out", str(outcome[0]))
