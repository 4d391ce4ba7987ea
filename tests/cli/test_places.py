"""Where ``graphdriver serve`` listens, and the file that leads a daemon there."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.docker.address.discovery import Address
from tests.support.certificates import Certificates, make
from tests.support.command import Serving, graphdriver

SPECS = Path("/etc/docker/plugins")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("tls") / "ours")


def options(certificates: Certificates) -> list[str]:
    return [
        f"--tlscacert={certificates['ca']}",
        f"--tlscert={certificates['plugin']}",
        f"--tlskey={certificates['plugin-key']}",
        f"--daemon-tlscert={certificates['daemon']}",
        f"--daemon-tlskey={certificates['daemon-key']}",
    ]


@pytest.fixture
def tcp(folder: Path) -> Iterator[Serving]:
    """vfs on a port of loopback, called like its folder."""
    one = Serving(folder, "vfs", "--name", folder.name, "--tcp", "127.0.0.1:0").ready()
    yield one
    if one.process.poll() is None:
        one.end(signal.SIGKILL)


def test_on_tcp_a_file_leads_to_the_port_and_goes_at_the_end(tcp: Serving, folder: Path) -> None:
    spec = SPECS / f"{folder.name}.spec"
    address = spec.read_text()
    assert address.startswith("tcp://127.0.0.1:")
    assert tcp.out.read_text().startswith(f"serving vfs on {address}\n")
    assert graphdriver("call", "--plugin", folder.name, "Activate").returncode == 0
    assert tcp.end() == 0
    assert not spec.exists()
    assert graphdriver("call", "--socket", address, "Activate").returncode == 11


def test_what_a_killed_plugin_left_leads_to_its_successor(tcp: Serving, folder: Path) -> None:
    spec = SPECS / f"{folder.name}.spec"
    before = spec.read_text()
    home = folder / "home"
    # As a daemon's: what an Init by hand leaves goes with the next plugin that starts anywhere.
    call = ["call", "--force", "--plugin", folder.name]
    assert graphdriver(*call, "Init", f"Home={home}").returncode == 0
    assert graphdriver(*call, "Create", "ID=a").returncode == 0
    tcp.end(signal.SIGKILL)
    assert spec.read_text() == before
    again = Serving(folder, "vfs", "--name", folder.name, "--tcp", "127.0.0.1:0").ready()
    try:
        assert spec.read_text() != before
        assert f"left behind by a plugin at {before}" in again.log.read_text()
        # And it knows the home.
        got = graphdriver("call", "--plugin", folder.name, "Get", "ID=a")
        assert json.loads(got.stdout) == {"Dir": f"{home}/a/root"}
    finally:
        assert again.end() == 0
    assert not spec.exists()


def test_another_plugins_file_is_kept_and_nothing_is_served(folder: Path) -> None:
    spec = SPECS / f"{folder.name}.spec"
    spec.parent.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as other:
        theirs = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        spec.write_text(theirs)
        result = graphdriver("serve", "vfs", "--socket", f"{folder}/{folder.name}.sock")
    assert result.returncode == 5
    assert f"{spec} belongs to another plugin, at {theirs}".encode() in result.stderr
    assert spec.read_text() == theirs
    assert not (folder / f"{folder.name}.sock").exists()


def test_a_socket_may_have_a_name_of_its_own(folder: Path) -> None:
    path = f"/run/docker/plugins/other-{folder.name}.sock"
    one = Serving(folder, "vfs", "--name", folder.name, "--socket", path).ready()
    try:
        assert (SPECS / f"{folder.name}.spec").read_text() == f"unix://{path}"
        assert graphdriver("call", "--plugin", folder.name, "Activate").returncode == 0
    finally:
        assert one.end() == 0


def test_with_tls_a_file_says_with_what_to_speak_it(
    folder: Path, certificates: Certificates
) -> None:
    spec = SPECS / f"{folder.name}.json"
    words = ("vfs", "--name", folder.name, "--tcp", "127.0.0.1:0", *options(certificates))
    one = Serving(folder, *words).ready()
    try:
        address = json.loads(spec.read_text())["Addr"]
        assert address.startswith("https://127.0.0.1:")
        assert graphdriver("call", "--plugin", folder.name, "Activate").returncode == 0
        # Without a certificate, and without TLS.
        port = Address.parse(address).port
        for other in (address, f"tcp://127.0.0.1:{port}"):
            assert graphdriver("call", "--socket", other, "Activate").returncode == 11
        assert "TLS handshake failed" in one.log.read_text()
    finally:
        assert one.end() == 0
    assert not spec.exists()


def test_certificates_that_would_not_do_for_the_daemon_are_refused_at_the_start(
    folder: Path, certificates: Certificates
) -> None:
    words = ["serve", "vfs", "--name", folder.name, *options(certificates)]
    result = graphdriver(*words, "--tcp", "localhost:0")
    assert result.returncode == 7
    assert (
        b"the daemon, which connects to localhost, would reject the plugin's cert" in result.stderr
    )
    assert not (SPECS / f"{folder.name}.json").exists()


def test_plain_tcp_beyond_loopback_is_refused_unless_forced(folder: Path) -> None:
    words = ("vfs", "--name", folder.name, "--tcp", "0.0.0.0:0")
    result = graphdriver("serve", *words)
    assert result.returncode == 7
    assert b"anybody who can reach it is root here" in result.stderr
    one = Serving(folder, *words, "--allow-plain-tcp").ready()
    try:
        assert graphdriver("call", "--plugin", folder.name, "Activate").returncode == 0
    finally:
        assert one.end() == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tcp=127.0.0.1:0", "--socket=/x.sock"], "not allowed with"),
        (["--tcp=127.0.0.1:0", "--group=0"], "--group does not go with --tcp"),
        (["--tcp=127.0.0.1"], "not of the form HOST:PORT"),
        (["--tcp=127.0.0.1:65536"], "not of the form HOST:PORT"),
        (["--tcp=127.0.0.1:0", "--tlscert=/c"], "TLS needs --tlscacert and --tlskey and --daemon"),
        (["--tlscacert=/c"], "--tlscacert does not go with a unix socket"),
        (["--allow-plain-tcp"], "--allow-plain-tcp does not go with a unix socket"),
        (["--socket=x.sock"], "is not an absolute path"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    folder: Path, words: list[str], said: str
) -> None:
    result = graphdriver("serve", "vfs", "--name", folder.name, *words)
    assert result.returncode == 2, result.stderr
    assert said.encode() in result.stderr


def test_tls_that_may_be_left_out_is_wrong_usage(certificates: Certificates) -> None:
    words = ["--name=x", "--tcp=127.0.0.1:0", "--allow-plain-tcp", *options(certificates)]
    result = graphdriver("serve", "vfs", *words)
    assert result.returncode == 2
    assert b"--allow-plain-tcp does not go with TLS" in result.stderr


@pytest.mark.parametrize("place", ["--socket", "--tcp"])
def test_who_does_not_want_tls_does_not_pay_for_it(folder: Path, place: str) -> None:
    (folder / "tells.py").write_text(
        "import sys\n"
        "from plain_folders import PlainFolders\n"
        "class Tells(PlainFolders):\n"
        "    def status(self): return [(name, '') for name in sys.modules]\n"
    )
    where = f"{folder}/{folder.name}.sock" if place == "--socket" else "127.0.0.1:0"
    words = ("tells:Tells", "--name", folder.name, place, where)
    one = Serving(folder, *words, path=str(folder)).ready()
    try:
        assert graphdriver("call", "--plugin", folder.name, "Init", f"Home={folder}/h").stdout
        said = graphdriver("call", "--plugin", folder.name, "Status").stdout
        modules = {name for name, _ in json.loads(said)["Status"]}
        assert "graphdriver.docker.http.server" in modules
        assert not {"ssl", "_ssl"} & modules
    finally:
        one.end()
