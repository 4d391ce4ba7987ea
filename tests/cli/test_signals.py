"""What signals do to the two servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Serving, environment
from tests.support.snapshotter import Snapshotter
from tests.support.traces import socket_in

SCRIPT = """
import sys
from graphdriver import serve_unix
from plain_folders import PlainFolders
serve_unix(PlainFolders(), sys.argv[1])
"""


class Server:
    """A process that listens on a socket and writes a log."""

    def __init__(self, process: subprocess.Popen[bytes], socket: str, log: Path) -> None:
        self.process = process
        self.socket = socket
        self._log = log

    def says(self, what: str, times: int = 1) -> None:
        """Wait until its log says something, so often."""
        deadline = time.monotonic() + 60
        while self._log.read_text().count(what) < times:
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def count(self, what: str) -> int:
        return self._log.read_text().count(what)


@pytest.fixture(params=["serve", "serve_unix", "snapshotter"])
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[Server]:
    if request.param == "snapshotter":
        snapshotter = Snapshotter(folder, "vfs")
        snapshotter.start()
        snapshotter.calls.close()
        assert snapshotter.process
        one = Server(snapshotter.process, snapshotter.address, snapshotter.log)
    elif request.param == "serve":
        serving = Serving(folder, "vfs").ready()
        one = Server(serving.process, serving.socket, serving.log)
    else:
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, socket_in(folder)], stderr=log, env=environment()
            )
        one = Server(process, socket_in(folder), folder / "log")
    one.says("INFO    serving")
    yield one
    if one.process.poll() is None:
        one.process.kill()
        one.process.wait()


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_signals_that_ask_for_nothing_we_have_are_ignored_and_logged_once(
    server: Server, number: signal.Signals
) -> None:
    said = f"ignoring {number.name}; the next one is not logged"
    server.process.send_signal(number)
    server.says(said)
    server.process.send_signal(number)
    # The next of the other kind is behind it in the queue.
    other = ({signal.SIGHUP, signal.SIGUSR2} - {number}).pop()
    server.process.send_signal(other)
    server.says(f"ignoring {other.name}")
    assert server.count(said) == 1
    assert os.path.exists(server.socket)


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_that_stop_a_server_remove_its_socket(
    server: Server, number: signal.Signals
) -> None:
    server.process.send_signal(number)
    assert server.process.wait(60) == 0
    assert not os.path.exists(server.socket)
