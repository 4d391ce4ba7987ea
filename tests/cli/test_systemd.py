"""``graphdriver serve`` under systemd, whose part these tests play; and, once, systemd's own tool."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.certificates import make
from tests.support.command import environment, graphdriver

GRAPHDRIVER = [sys.executable, "-m", "graphdriver"]

TELLS = """
import subprocess
from plain_folders import PlainFolders
class Tells(PlainFolders):
    def status(self):
        # As C code would start one: nothing is closed that does not close itself.
        look = ["sh", "-c", "env; ls -l /proc/$$/fd"]
        return [("child", subprocess.run(look, capture_output=True, text=True, close_fds=False).stdout)]
"""


class HasFileno(Protocol):
    """A file or a socket."""

    def fileno(self) -> int: ...


class Manager:
    """What systemd is to a service: it has the socket, starts the service, and is told how it is."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.out = folder / "out"
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told.settimeout(60)
        self.process: subprocess.Popen[bytes] | None = None

    def listen_to_it(self, address: str) -> dict[str, str]:
        """Bind where the service tells how it is; return the variable that says so."""
        self._told.bind(address.replace("@", "\0"))
        return {"NOTIFY_SOCKET": address}

    def start(
        self,
        *words: str,
        passing: HasFileno | None = None,
        variables: Mapping[str, str] | None = None,
        path: str = "",
    ) -> None:
        """Start ``graphdriver serve`` as a service, with ``passing`` as its descriptor 3."""
        become, given = 'LISTEN_PID=$$ exec "$@"', []
        if passing:
            given = [fcntl.fcntl(passing.fileno(), fcntl.F_DUPFD, 10)]
            become += " 3<&{0} {0}<&-".format(*given)
        with open(self.log, "ab") as log, open(self.out, "ab") as out:
            self.process = subprocess.Popen(
                ["bash", "-c", become, "-", *GRAPHDRIVER, "serve", *words, "--log-format=json"],
                env=environment(path=path, **{"LISTEN_FDS": str(len(given)), **(variables or {})}),
                pass_fds=given,
                stdout=out,
                stderr=log,
            )
        for each in given:
            os.close(each)

    def hears(self) -> list[str]:
        """Wait for the next that is told."""
        return self._told.recv(4096).decode().split("\n")

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)

    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def said(self) -> str:
        return "\n".join(line["message"] for line in self.lines())

    def close(self) -> None:
        if self.process:
            self.end(signal.SIGKILL)
        self._told.close()


@pytest.fixture
def manager(folder: Path) -> Iterator[Manager]:
    with contextlib.closing(Manager(folder)) as one:
        yield one


@pytest.fixture
def listening(folder: Path) -> Iterator[socket.socket]:
    """A socket like the one that docs/operations.md has systemd make, only elsewhere."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listens:
        path = f"{folder}/{folder.name}.sock"
        listens.bind(path)
        os.chmod(path, 0o660)
        listens.listen()
        yield listens


def activate(where: str) -> bool:
    return graphdriver("call", "--socket", where, "Activate").returncode == 0


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_is_told_when_calls_can_be_answered_and_when_it_stops(
    manager: Manager, folder: Path, kind: str
) -> None:
    address = f"{folder}/notify" if kind == "path" else f"@gd-{folder.name}"
    path = f"{folder}/{folder.name}.sock"
    manager.start("vfs", "--socket", path, variables=manager.listen_to_it(address))
    assert manager.hears() == ["READY=1", f"STATUS=serving vfs on unix://{path}"]
    assert activate(path)
    assert manager.process
    manager.process.send_signal(signal.SIGTERM)
    assert manager.hears() == ["STOPPING=1"]
    assert manager.process.wait(60) == 0
    assert manager.out.read_bytes() == b""  # where nobody reads directions, none are given
    served, connected, stopping = manager.said().splitlines()
    assert (served, stopping) == (f"serving vfs on {path}", "stopping")
    assert connected.endswith("of user 0 connected")


def test_a_manager_that_is_gone_is_no_reason_not_to_serve(manager: Manager, folder: Path) -> None:
    path = f"{folder}/{folder.name}.sock"
    manager.start("vfs", "--socket", path, variables={"NOTIFY_SOCKET": "/nowhere/notify"})
    while not os.path.exists(path):
        time.sleep(0.02)
    assert activate(path)
    assert manager.end() == 0
    assert "cannot notify systemd at /nowhere/notify: No such file or directory" in manager.said()


def test_a_passed_socket_is_served_and_stays_at_the_end(
    manager: Manager, folder: Path, listening: socket.socket
) -> None:
    path = listening.getsockname()
    variables = manager.listen_to_it(f"{folder}/notify")
    made = os.stat(path)
    for _ in range(2):  # one after the other, on the same socket
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as early:
            early.settimeout(60)
            early.connect(path)  # what starts the service waits for it
            early.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\n\r\n")
            manager.start("vfs", passing=listening, variables=variables)
            assert early.recv(4096).startswith(b"HTTP/1.1 200 OK")
            assert manager.hears() == ["READY=1", f"STATUS=serving vfs on unix://{path}"]
        assert activate(path)
        assert manager.end() == 0
        assert manager.hears() == ["STOPPING=1"]
        assert os.stat(path) == made
    assert not Path(f"/etc/docker/plugins/{folder.name}.spec").exists()
    assert f"until /etc/docker/plugins/{folder.name}.spec names it" in manager.said()


def test_the_administrators_file_that_leads_to_a_passed_socket_stays_too(
    manager: Manager, folder: Path, listening: socket.socket
) -> None:
    spec = Path(f"/etc/docker/plugins/{folder.name}.spec")
    spec.parent.mkdir(parents=True, exist_ok=True)
    spec.write_text(f"unix://{listening.getsockname()}\n")
    variables = manager.listen_to_it(f"{folder}/notify")
    manager.start("vfs", passing=listening, variables=variables)
    manager.hears()
    assert graphdriver("call", "--plugin", folder.name, "Activate").returncode == 0
    assert manager.end() == 0
    assert spec.exists()
    assert "names it" not in manager.said()


def test_a_child_gets_neither_the_variables_nor_the_socket(
    manager: Manager, folder: Path, listening: socket.socket
) -> None:
    (folder / "tells.py").write_text(TELLS)
    path = listening.getsockname()
    variables = {**manager.listen_to_it(f"{folder}/notify"), "LISTEN_FDNAMES": "plugin"}
    manager.start("tells:Tells", passing=listening, variables=variables, path=str(folder))
    manager.hears()
    assert graphdriver("call", "--socket", path, "Init", f"Home={folder}/home").returncode == 0
    said = graphdriver("call", "--socket", path, "Status").stdout.decode()
    assert "PATH=" in said
    assert "/dev/null" in said or "pipe:" in said
    for word in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "socket:"):
        assert word not in said
    assert manager.end() == 0


def test_what_was_meant_for_another_process_is_left_alone(
    folder: Path, listening: socket.socket
) -> None:
    # As an ancestor leaves it behind that did not clear its variables.
    path = f"{folder}/own-{folder.name}.sock"
    for pid in (str(os.getpid()), "", "1x"):
        with subprocess.Popen(
            [*GRAPHDRIVER, "serve", "vfs", "--name", folder.name, "--socket", path],
            env=environment(LISTEN_PID=pid, LISTEN_FDS="1"),
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout
            assert path in process.stdout.readline().decode()
            assert activate(path)
            process.terminate()
            assert process.wait(60) == 0
        assert not os.path.exists(path)


def test_more_sockets_than_one_are_a_clear_error(
    manager: Manager, folder: Path, listening: socket.socket
) -> None:
    manager.start("vfs", passing=listening, variables={"LISTEN_FDS": "2"})
    assert manager.end(0) == 7
    assert "systemd passed 2 sockets, and a plugin serves one" in manager.said()


def passed_tcp(folder: Path) -> socket.socket:
    return socket.create_server(("0.0.0.0", 0))


def passed_datagrams(folder: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(f"{folder}/datagrams")
    return made


def passed_connection(folder: Path) -> socket.socket:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours


def passed_abstract(folder: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(f"\0gd-{folder.name}")
    made.listen()
    return made


def passed_to_anybody(folder: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(f"{folder}/anybodys.sock")
    os.chmod(f"{folder}/anybodys.sock", 0o666)
    made.listen()
    return made


def passed_and_removed(folder: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(f"{folder}/gone.sock")
    made.listen()
    os.unlink(f"{folder}/gone.sock")
    return made


@pytest.mark.parametrize(
    ("passed", "said"),
    [
        (passed_tcp, "0.0.0.0 can be reached from other machines"),
        (passed_datagrams, "does not listen for connections; use ListenStream= and Accept=no"),
        (passed_connection, "does not listen for connections; use ListenStream= and Accept=no"),
        (passed_abstract, "any user could connect and become root"),
        (passed_to_anybody, "become root; put SocketMode=0660 into the .socket unit"),
        (passed_and_removed, "cannot tell who may connect"),
    ],
    ids=["TCP", "datagrams", "connection", "abstract", "anybody", "removed"],
)
def test_a_socket_that_will_not_do_is_refused_with_the_reason(
    manager: Manager, folder: Path, passed: object, said: str
) -> None:
    assert callable(passed)
    with passed(folder) as one:
        manager.start("vfs", "--name", folder.name, passing=one)
        assert manager.end(0) == 7
    assert said in manager.said()


def test_what_is_no_socket_is_refused_with_the_reason(manager: Manager, folder: Path) -> None:
    with open(f"{folder}/file", "w") as file:
        manager.start("vfs", passing=file)
        assert manager.end(0) == 7
    assert "descriptor 3 is not a socket: Socket operation on non-socket" in manager.said()


@pytest.mark.parametrize(
    "words",
    [["--socket=/x.sock"], ["--tcp=127.0.0.1:0"], ["--group=0"], ["--tlscert=/c"]],
    ids=lambda words: words[0],
)
def test_options_for_a_socket_of_ones_own_do_not_go_with_a_passed_one(
    manager: Manager, listening: socket.socket, words: list[str]
) -> None:
    manager.start("vfs", *words, passing=listening)
    assert manager.end(0) == 2
    assert f"{words[0].partition('=')[0]} does not go with " in manager.said()


def test_tls_is_spoken_on_a_passed_port(manager: Manager, folder: Path, tmp_path: Path) -> None:
    mine = make(tmp_path / "tls")
    variables = manager.listen_to_it(f"{folder}/notify")
    with socket.create_server(("127.0.0.1", 0)) as listens:
        manager.start(
            *("vfs", "--name", folder.name, "--tlscacert", mine["ca"]),
            *("--tlscert", mine["plugin"], "--tlskey", mine["plugin-key"]),
            passing=listens,
            variables=variables,
        )
        address = f"https://127.0.0.1:{listens.getsockname()[1]}"
        assert manager.hears() == ["READY=1", f"STATUS=serving vfs on {address}"]
        config = {"CAFile": mine["ca"], "CertFile": mine["daemon"], "KeyFile": mine["daemon-key"]}
        spec = Path(f"/etc/docker/plugins/{folder.name}.json")
        spec.parent.mkdir(parents=True, exist_ok=True)
        spec.write_text(json.dumps({"Name": "x", "Addr": address, "TLSConfig": config}))
        assert graphdriver("call", "--plugin", folder.name, "Activate").returncode == 0
        assert not activate(address)
        assert manager.end() == 0
    assert spec.exists()


def test_systemds_own_tool_starts_it_with_the_first_call(folder: Path) -> None:
    tool = shutil.which("systemd-socket-activate")
    assert tool, "systemd is not installed"
    path = f"{folder}/{folder.name}.sock"
    with subprocess.Popen(
        [tool, f"--listen={path}", *GRAPHDRIVER, "serve", "vfs", "--log-format=json"],
        # It gives its child an environment with little in it, PATH and HOME besides what is asked.
        env=environment(),
        stderr=subprocess.PIPE,
    ) as process:
        while not (os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode)):
            time.sleep(0.02)
        assert activate(path)
        process.terminate()
        assert process.stderr
        said = process.stderr.read().decode()
        assert process.wait(60) == 0
    assert os.path.exists(path)
    assert re.search(r'"message": "serving vfs on ', said), said
