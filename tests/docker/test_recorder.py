"""The recorder hands on every byte, and tells each call as it was."""

from __future__ import annotations

import io
import os
import re
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import UnixListener
from graphdriver.conformance.plugin import wire
from graphdriver.conformance.plugin.wire import Wire
from graphdriver.docker.address.discovery import Address
from graphdriver.docker.recorder import Recorder
from tests.support.plugin import Plugin
from tests.support.waiting import wait_until

TAR = bytes(1024)


class Recorded:
    """A plugin behind a recorder."""

    def __init__(self, folder: Path) -> None:
        self.plugin = Plugin(folder)
        self.path = str(folder / "recorded.sock")
        self.out = io.StringIO()
        listener = UnixListener(self.path)
        self.recorder = Recorder(listener, Address(path=self.plugin.path), self.out)
        self._thread = threading.Thread(target=self.recorder.run)
        self._thread.start()
        self._listener = listener

    def lines(self, count: int) -> list[str]:
        """Return what was told, without times, once there are so many lines."""
        wait_until(lambda: self.out.getvalue().count("\n") >= count)
        found = self.out.getvalue().splitlines()
        assert len(found) == count
        for line in found:
            assert re.match(r"\d\d:\d\d:\d\d\.\d{3}  \d+ +.* \d+\.\d ms$", line)
        return [re.sub(r"\d+\.\d ms", "T ms", line[14:]) for line in found]

    def stop(self) -> None:
        if self._thread.is_alive():
            self.recorder.stop()
        self._thread.join()
        self._listener.close()


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    with tempfile.TemporaryDirectory(prefix="gd-") as folder:
        one = Recorded(Path(folder))
        try:
            yield one
        finally:
            one.stop()
            one.plugin.stop()


def test_each_call_is_a_line(recorded: Recorded) -> None:
    with Wire(recorded.path) as daemon:
        for call in (
            wire.call("Init", Home=recorded.plugin.home),
            wire.call("Create", ID="a"),
            wire.apply("a", TAR),
            wire.call("Get", ID="nobody"),
            wire.call("Diff", ID="a"),
        ):
            daemon.ask(call)
    home = recorded.plugin.home
    assert recorded.lines(5) == [
        f'1  Init {{"Home": "{home}"}}  ->  200 {{}}  T ms',
        '1  Create {"ID": "a"}  ->  200 {}  T ms',
        '1  ApplyDiff?id=a&parent=  1024 B in  ->  200 {"Size":1024}  T ms',
        '1  Get {"ID": "nobody"}  ->  500 {"Err":"get nobody: the layer does not exist",'
        '"Kind":"not found"}  T ms',
        '1  Diff {"ID": "a"}  ->  200 1024 B out, the first after T ms  T ms',
    ]


def test_what_breaks_off_is_told(recorded: Recorded) -> None:
    with Wire(recorded.path) as daemon:
        daemon.ask(wire.call("Init", Home=recorded.plugin.home))
        daemon.ask(wire.call("Create", ID="a"))
        daemon.send(wire.apply_head("a"), *list(wire.chunks(TAR)))
        wait_until(lambda: ("apply_diff", "a", "") in recorded.plugin.box.calls)
    (line,) = recorded.lines(3)[2:]
    assert "ApplyDiff?id=a&parent=  1024 B in  ->  " in line
    assert "broke off" in line or "no answer, the daemon closed the connection" in line


def test_every_byte_is_handed_on(recorded: Recorded) -> None:
    data = os.urandom(5 << 20)
    with Wire(recorded.path) as daemon:
        daemon.ask(wire.call("Init", Home=recorded.plugin.home))
        daemon.ask(wire.call("Create", ID="a"))
        assert daemon.ask(wire.apply("a", data)).members == {"Size": len(data)}
        answer = daemon.ask(wire.call("Diff", ID="a"))
    assert answer.is_whole
    assert answer.body == data
    assert "5.2 MB out" in recorded.lines(4)[3]


def test_what_is_no_http_is_handed_on_too(recorded: Recorded) -> None:
    with Wire(recorded.path) as daemon:
        straight = Wire(recorded.plugin.path)
        with straight:
            expected = straight.send(b"nonsense\r\n\r\n").rest()
        assert daemon.send(b"nonsense\r\n\r\n").rest() == expected


def test_a_plugin_that_is_not_there_is_told(recorded: Recorded) -> None:
    os.unlink(recorded.plugin.path)
    with Wire(recorded.path) as daemon:
        assert daemon.rest() == b""
    wait_until(lambda: recorded.out.getvalue() != "")
    assert recorded.out.getvalue().split() == [
        "1",
        *["the", "plugin", "takes", "no", "connection:", "No", "such", "file", "or", "directory"],
    ]


def test_a_call_that_nobody_answered_is_told_at_the_end(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = threading.Event()
    monkeypatch.setattr(recorded.plugin.box, "exists", lambda _: hanging.wait(60))
    daemon = Wire(recorded.path)
    with daemon:
        daemon.ask(wire.call("Init", Home=recorded.plugin.home))
        daemon.send(wire.call("Exists", ID="a"))
        wait_until(lambda: recorded.plugin.handler.running() != [])
        recorded.recorder.stop()
        wait_until(lambda: "Exists" in recorded.out.getvalue())
        hanging.set()
    assert 'Exists {"ID": "a"}  ->  no answer, the recorder was stopped' in recorded.out.getvalue()


def test_what_a_plugin_says_cannot_command_a_terminal_nor_fill_the_memory(
    recorded: Recorded,
) -> None:
    os.unlink(recorded.plugin.path)
    said = b"\x1b]0;owned\x07" + b"x" * (8 << 20)
    with socketserver.ThreadingUnixStreamServer(recorded.plugin.path, _Loud) as plugin:
        _Loud.said = said
        threading.Thread(target=plugin.serve_forever, daemon=True).start()
        with Wire(recorded.path) as daemon:
            answer = daemon.ask(wire.call("Get", ID="a"))
        plugin.shutdown()
    assert answer.body == said
    (line,) = recorded.lines(1)
    assert line.isprintable()
    assert len(line) < 3000
    assert f"({len(said)} B in all)" in line


class _Loud(socketserver.StreamRequestHandler):
    said = b""

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        head = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: %d\r\n\r\n"
        self.wfile.write(head % len(self.said) + self.said)


def test_a_target_that_comes_in_pieces_is_one_call(recorded: Recorded) -> None:
    whole = wire.call("Exists", ID="a")
    with Wire(recorded.path) as daemon:
        daemon.ask(wire.call("Init", Home=recorded.plugin.home))
        at = whole.index(b"Driver.Exi")
        daemon.send(whole[:at])
        time.sleep(0.05)  # so that the two pieces are read apart
        assert daemon.ask(whole[at:]).members == {"Exists": False}
    assert recorded.lines(2)[1] == '1  Exists {"ID": "a"}  ->  200 {"Exists":false}  T ms'
