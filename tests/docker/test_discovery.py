"""How a daemon finds a plugin, and the files by which it does."""

from __future__ import annotations

import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdriver import TCPListener, UnixListener
from graphdriver.docker.address.discovery import Address, ClientTLS, find
from graphdriver.docker.address.listeners import PLUGIN_SOCKETS
from graphdriver.docker.address.spec_files import SpecFile
from graphdriver.errors import GraphDriverError, InUseError, MalformedRequestError, UnreachableError

TLS = ClientTLS("/ca", "/cert", "/key")


@pytest.fixture
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="gd-") as path:
        yield path


@pytest.fixture
def name() -> str:
    return f"py-test-{secrets.token_hex(4)}"


def write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def test_a_plugin_is_found_where_a_daemon_looks_in_its_order(folder: str) -> None:
    # The order of dockerd 20.10.24, as strace shows it.
    sockets, first, second = f"{folder}/run", f"{folder}/etc", f"{folder}/lib"
    found_last_first = [
        f"{base}/{stem}{suffix}"
        for base in (second, first)
        for suffix in (".json", ".spec")
        for stem in ("p/p", "p")
    ]
    for port, path in enumerate(found_last_first, 1):
        address = f"tcp://127.0.0.1:{port}"
        write(path, json.dumps({"Addr": address}) if path.endswith("json") else f"{address}\n")
        assert find("p", sockets, (first, second)) == Address(host="127.0.0.1", port=port), path
    for path in (f"{sockets}/p/p.sock", f"{sockets}/p.sock"):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
            bound.bind(path)
        assert find("p", sockets, (first, second)) == Address(path=path)
    with pytest.raises(UnreachableError, match=f"no socket in {sockets}"):
        find("q", sockets, (first, second))


def test_what_no_daemon_could_read_is_no_address() -> None:
    none = ["", "p.sock", "tcp://127.0.0.1", "unix://relative", "ftp://h:1", "tcp://:1", "/a\0b"]
    none += ["tcp://h:0", "tcp://h:65536", "tcp://h:" + "9" * 9999, "tcp://h:\N{SUPERSCRIPT TWO}"]
    none += [f"tcp://{'a' * 300}:1", "tcp://a..b:1", "tcp://a b:1", "unix:///%00"]
    for text in none:
        with pytest.raises(MalformedRequestError, match="not a plugin's address"):
            Address.parse(text)


@pytest.mark.parametrize("name", ["", "a\0b", "../p", "a/b"])
def test_what_can_be_no_name_is_not_looked_for(name: str) -> None:
    with pytest.raises(MalformedRequestError, match="is not a plugin's name"):
        find(name)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "7",
        '{"Name": "p"}',
        '{"Addr": 1}',
        '{"Addr": "tcp://h:99999"}',
        '{"Addr": "https://h:1", "TLSConfig": [1]}',
        '{"Addr": "https://h:1", "TLSConfig": {"CAFile": 7}}',
        '{"Addr": "https://h:1", "TLSConfig": {"KeyFile": ["a"]}}',
        "\udcff",
        "[" * 100_000,
    ],
)
def test_a_json_file_that_describes_no_plugin_is_named(folder: str, text: str) -> None:
    with open(f"{folder}/p.json", "w", errors="surrogateescape") as file:
        file.write(text)
    with pytest.raises(UnreachableError, match="json does not describe a plugin"):
        find("p", specs=(folder,))


@given(
    st.builds(
        Address,
        path=st.text(st.characters(exclude_characters="\0"), min_size=1).map(
            lambda text: f"/{text}"
        ),
    )
    | st.builds(
        Address,
        host=st.sampled_from(["127.0.0.1", "::1", "plugin.example"]),
        port=st.integers(1, 65535),
        tls=st.sampled_from([None, TLS]),
    )
)
def test_an_address_is_read_as_it_was_written(address: Address) -> None:
    assert Address.parse(str(address), address.tls) == address


def test_a_spec_file_leads_to_the_plugin_and_goes_at_the_end(folder: str, name: str) -> None:
    os.mkdir(f"{folder}/a space, %41 and #1")
    listener = UnixListener(f"{folder}/a space, %41 and #1/p.sock")
    for address, tls in (
        (listener.address, None),
        ("tcp://127.0.0.1:2", None),
        ("https://127.0.0.1:2", TLS),
    ):
        spec = SpecFile(name, address, tls, f"{folder}/new/specs")
        assert os.stat(spec.path).st_mode & 0o777 == 0o644
        found = find(name, specs=(f"{folder}/new/specs",))
        assert found == Address.parse(address, tls)
        assert found.path in ("", listener.path)
        spec.close()
        assert os.listdir(f"{folder}/new/specs") == []
        spec.close()
    listener.close()


def test_the_json_file_is_what_dockers_documentation_says(folder: str, name: str) -> None:
    spec = SpecFile(name, "https://127.0.0.1:2", TLS, folder)
    assert json.loads(read(f"{folder}/{name}.json")) == {
        "Name": name,
        "Addr": "https://127.0.0.1:2",
        "TLSConfig": {
            "InsecureSkipVerify": False,
            "CAFile": "/ca",
            "CertFile": "/cert",
            "KeyFile": "/key",
        },
    }
    spec.close()


def test_a_spec_file_that_somebody_else_wrote_is_not_removed(folder: str, name: str) -> None:
    spec = SpecFile(name, "tcp://127.0.0.1:2", directory=folder)
    write(spec.path, "tcp://127.0.0.1:3")
    spec.close()
    assert os.path.exists(spec.path)


def test_a_spec_file_of_the_next_process_is_not_removed(folder: str, name: str) -> None:
    """It says the same, and is written while the former process still ends its calls."""
    former = SpecFile(name, "tcp://127.0.0.1:2", directory=folder)
    later = SpecFile(name, "tcp://127.0.0.1:2", directory=folder)
    former.close()
    assert read(later.path) == "tcp://127.0.0.1:2"
    later.close()
    assert os.listdir(folder) == []


def test_what_a_killed_plugin_left_behind_is_replaced_with_a_warning(
    folder: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    gone = TCPListener("127.0.0.1", 0)
    gone.close()
    for left in (f"unix://{folder}/gone.sock", gone.address):
        write(f"{folder}/{name}.spec", left)
        spec = SpecFile(name, "tcp://127.0.0.1:2", directory=folder)
        assert read(spec.path) == "tcp://127.0.0.1:2"
        assert f"{name}.spec, left behind by a plugin at {left}: " in caplog.text
        spec.close()
        assert os.listdir(folder) == []


def test_another_plugins_file_is_neither_overwritten_nor_removed(folder: str, name: str) -> None:
    tcp, unix = TCPListener("127.0.0.1", 0), UnixListener(f"{folder}/p.sock")
    cannot_be_asked = f"unix://{folder}/{'x' * 200}"
    for address in (tcp.address, unix.address, cannot_be_asked, "of nobody we know"):
        path = f"{folder}/etc/{name}.spec"
        write(path, address)
        with pytest.raises(InUseError, match=f"{name}.spec"):
            SpecFile(name, "tcp://127.0.0.1:2", directory=f"{folder}/etc")
        assert read(path) == address
    tcp.close()
    unix.close()


def test_a_plugin_that_no_daemon_would_find_is_an_error(folder: str, name: str) -> None:
    write(f"{folder}/{name}.spec", "tcp://127.0.0.1:3")
    with pytest.raises(InUseError, match=r"would find tcp://127\.0\.0\.1:3 and never https"):
        SpecFile(name, "https://127.0.0.1:2", TLS, folder)
    assert os.listdir(folder) == [f"{name}.spec"]
    path = f"{PLUGIN_SOCKETS}/{name}.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(path)
    try:
        with pytest.raises(InUseError, match=f"would find unix://{path}"):
            SpecFile(name, "tcp://127.0.0.1:3", directory=folder)
    finally:
        os.unlink(path)


def test_a_file_that_cannot_be_written_is_an_error_that_says_what_it_is_for(
    folder: str, name: str
) -> None:
    write(f"{folder}/file", "")
    with pytest.raises(
        GraphDriverError, match=r"by which a daemon finds the plugin: Not a directory"
    ):
        SpecFile(name, "tcp://127.0.0.1:2", directory=f"{folder}/file")
