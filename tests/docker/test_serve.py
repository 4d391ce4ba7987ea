"""`serve`, `serve_unix` and `serve_tcp`: a plugin in one line does all that a plugin must."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Client
from graphdriver.errors import GraphDriverError
from tests.support.command import environment
from tests.support.traces import forget, socket_in

SERVES = {
    "serve_unix": "serve_unix(PlainFolders(), path)",
    "serve": "serve(PlainFolders(), UnixListener(path), TCPListener('127.0.0.1', 0))",
    "serve_tcp": "serve_tcp(PlainFolders(), name, '127.0.0.1', 0)",
    # Signals are the main thread's: here nobody handles them, and nothing fails for it.
    "in a thread": "threading.Thread(target=serve_unix, args=(PlainFolders(), path)).start()",
}

PROGRAM = """
import os, sys, threading
from graphdriver import TCPListener, UnixListener, serve, serve_tcp, serve_unix
from plain_folders import PlainFolders
path = sys.argv[1]
name = os.path.basename(path).removesuffix(".sock")
{first}
{serves}
"""

pytestmark = pytest.mark.root


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gd-") as path:
        yield Path(path)
        forget(socket_in(path))


class Script:
    """A program that serves a driver itself."""

    def __init__(self, folder: Path, serves: str, first: str = "") -> None:
        self.path = socket_in(folder)
        self.log = folder / "log"
        self._program = PROGRAM.format(serves=serves, first=first)
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: str = "serving", **variables: str) -> None:
        before = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", self._program, self.path],
                stderr=log,
                env=environment(**variables),
            )
        deadline = time.monotonic() + 60
        while ready not in self.log.read_text()[before:]:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(60)

    def client(self) -> Client:
        spec = Path(f"/etc/docker/plugins/{self._folder.name}.spec")
        return Client(spec.read_text() if spec.exists() else self.path, timeout=60)


@pytest.fixture(params=SERVES)
def script(request: pytest.FixtureRequest, folder: Path) -> Iterator[Script]:
    one = Script(folder, SERVES[request.param])
    one.start()
    yield one
    one.kill()


def test_a_plugin_that_is_restarted_knows_its_home(script: Script, folder: Path) -> None:
    with script.client() as client:
        client.init(f"{folder}/home", [], [], [])
        client.create("a", "", "", {})
    script.kill()
    script.start()
    with script.client() as client:
        assert client.exists("a")
        client.create("b", "a", "", {})
        assert client.get("b", "") == f"{folder}/home/b"


def test_layers_get_the_modes_that_they_say(folder: Path) -> None:
    script = Script(folder, SERVES["serve_unix"], first="os.umask(0o077)")
    script.start()
    try:
        with script.client() as client:
            client.init(f"{folder}/home", [], [], [])
            client.create("a", "", "", {})
        assert (folder / "home/a").stat().st_mode & 0o777 == 0o755
    finally:
        script.kill()


def test_a_log_of_the_programs_own_is_left_to_it(folder: Path) -> None:
    own = "import logging; logging.basicConfig(level='INFO', format='MINE %(message)s')"
    script = Script(folder, SERVES["serve_unix"], first=own)
    script.start(ready="MINE serving")
    script.kill()
    assert "INFO" not in script.log.read_text()


def test_a_service_manager_is_told_how_it_stands(folder: Path) -> None:
    script = Script(folder, SERVES["serve_unix"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(60)
        manager.bind(f"{folder}/notify")
        script.start(NOTIFY_SOCKET=f"{folder}/notify")
        assert manager.recv(4096).startswith(b"READY=1\nSTATUS=serving ")
        assert script.process
        script.process.terminate()
        assert manager.recv(4096) == b"STOPPING=1"
        assert script.process.wait(60) == 0


def test_a_state_directory_that_cannot_be_made_is_an_error_that_names_it(folder: Path) -> None:
    script = Script(
        folder,
        SERVES["serve_unix"],
        first="from graphdriver.docker.state import make_state_directory\n"
        "make_state_directory.__defaults__ = ('/proc/nope/plugins',)",
    )
    with pytest.raises(AssertionError, match=r"the state directory /proc/nope/plugins/\S+ cannot"):
        script.start()
    assert not os.path.exists(script.path)


def test_what_a_daemon_that_called_cleanup_said_is_forgotten_at_the_stop(folder: Path) -> None:
    script = Script(folder, SERVES["serve_unix"])
    script.start()
    with script.client() as client:
        client.init(f"{folder}/home", [], [], [])
        client.cleanup()
    assert script.process
    script.process.terminate()
    assert script.process.wait(60) == 0
    script.start()
    with script.client() as client, pytest.raises(GraphDriverError, match="Init"):
        client.exists("a")
    script.kill()


def test_the_examples_say_what_they_need() -> None:
    for example in ("plain_folders", "keeps_tars"):
        path = Path(__file__).parents[2] / "examples" / f"{example}.py"
        for words in ([], ["a", "b"]):
            done = subprocess.run(
                [sys.executable, path, *words], capture_output=True, text=True, env=environment()
            )
            assert done.returncode == 1
            assert done.stderr == f"usage: python {path} NAME\n"
