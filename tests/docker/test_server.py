"""The server's own life: what it bears, and how it ends."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Client, Handler, Server, UnixListener
from graphdriver.conformance.plugin import wire
from graphdriver.conformance.plugin.wire import Wire
from graphdriver.docker.http import server as server_module
from graphdriver.files.path_lock import locked
from graphdriver.serving.home import Home
from tests.docker.conftest import connections
from tests.support.plugin import Plugin
from tests.support.tarbox import TarBox
from tests.support.traces import forget, socket_in
from tests.support.waiting import wait_until

ACTIVATE = wire.head("/Plugin.Activate", "Content-Length: 0")
ROOT = Path(__file__).parents[2]


# --- a process that runs out of something ---------------------------------------------------------


class Process:
    """``graphdriver serve`` in a process whose limits a test sets."""

    def __init__(self, folder: str) -> None:
        self.path = socket_in(folder)
        self.log = Path(folder, "log")
        command = [sys.executable, "-m", "graphdriver", "serve", "vfs", "--socket", self.path]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT / "src")
        wait_until(lambda: b"serving vfs on" in self.log.read_bytes())

    @contextlib.contextmanager
    def limited(self, what: int, to: int) -> Iterator[None]:
        """Take something away for a while."""
        before = resource.prlimit(self.process.pid, what)
        resource.prlimit(self.process.pid, what, (to, before[1]))
        try:
            yield
        finally:
            resource.prlimit(self.process.pid, what, before)

    def lowest_free(self) -> int:
        """Return the descriptor that the process would get next."""
        taken = {int(name) for name in os.listdir(f"/proc/{self.process.pid}/fd")}
        return min(set(range(len(taken) + 1)) - taken)

    def size(self) -> int:
        """Return the bytes of its address space."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[0]
        return int(pages) * resource.getpagesize()

    def wake_ups(self) -> int:
        """Count how often its threads have waited for something and gone on."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        lines = [line for task in tasks for line in (task / "status").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_"))

    def says(self, text: bytes) -> int:
        return self.log.read_bytes().count(text)


@pytest.fixture
def process() -> Iterator[Process]:
    with tempfile.TemporaryDirectory(prefix="gd-") as folder:
        one = Process(folder)
        try:
            yield one
        finally:
            one.process.send_signal(signal.SIGTERM)
            assert one.process.wait(60) == 0, one.log.read_text()
            forget(one.path)
        assert b"Traceback" not in one.log.read_bytes(), one.log.read_text()


def test_without_descriptors_callers_wait_and_are_served_when_there_are_some(
    process: Process,
) -> None:
    with contextlib.ExitStack() as stack:
        with process.limited(resource.RLIMIT_NOFILE, process.lowest_free()):
            waiting = [stack.enter_context(Wire(process.path)) for _ in range(5)]
            for one in waiting:
                one.send(ACTIVATE)
            wait_until(lambda: process.says(b"which waits: this process has"))
            threading.Event().wait(0.5)
        assert process.says(b"cannot accept a connection") == 1  # not ten times a second
        for one in waiting:
            assert b"GraphDriver" in one.answer().body


READY = """
import resource, signal, sys
from graphdriver import Handler, UnixListener
from graphdriver.docker.serve import run
from tests.support.tarbox import TarBox

def take_away() -> None:
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
    signal.signal(signal.SIGALRM, lambda *_: resource.setrlimit(resource.RLIMIT_NOFILE, (least, most)))
    print(flush=True)

run(Handler(TarBox()), [UnixListener(sys.argv[1])], None, take_away)
"""
"""A plugin that may open nothing from the moment when it is ready until SIGALRM."""


def test_what_serving_needs_is_open_when_the_plugin_is_ready() -> None:
    with tempfile.TemporaryDirectory(prefix="gd-") as folder:
        command = [sys.executable, "-c", READY, f"{folder}/p.sock"]
        path = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=path) as plugin:
            assert plugin.stdout
            plugin.stdout.readline()
            with Wire(f"{folder}/p.sock") as caller:
                caller.send(ACTIVATE)
                plugin.send_signal(signal.SIGALRM)
                assert b"GraphDriver" in caller.answer().body
            plugin.terminate()
            assert plugin.wait(60) == 0


def test_a_call_is_answered_without_a_descriptor_to_learn_who_makes_it(process: Process) -> None:
    descriptors = Path(f"/proc/{process.process.pid}/fd")
    before = len(os.listdir(descriptors))
    with Wire(process.path) as caller:
        wait_until(lambda: len(os.listdir(descriptors)) > before)
        with process.limited(resource.RLIMIT_NOFILE, process.lowest_free()):
            caller.send(ACTIVATE)
            answer = caller.answer()
    assert answer.status == 500
    assert "files open, as many as it may (RLIMIT_NOFILE)" in answer.error


def test_without_threads_callers_wait_and_are_served_when_there_are_some(process: Process) -> None:
    with contextlib.ExitStack() as stack:
        # A thread's stack is of 8 MiB, which the C library keeps for the next one: none has run.
        with process.limited(resource.RLIMIT_AS, process.size() + (4 << 20)):
            waiting = [stack.enter_context(Wire(process.path)) for _ in range(5)]
            for one in waiting:
                one.send(ACTIVATE)
            wait_until(lambda: process.says(b"cannot serve a connection, which waits"))
            threading.Event().wait(0.5)
        assert process.says(b"cannot serve a connection") == 1
        for one in waiting:
            assert b"GraphDriver" in one.answer().body


def test_while_there_are_no_calls_nothing_runs(process: Process) -> None:
    with Wire(process.path) as one:
        for _ in range(3):
            assert one.ask(ACTIVATE).status == 200
            wait_until(lambda: sleeps_for_a_second(process))


def sleeps_for_a_second(process: Process) -> bool:
    before = process.wake_ups()
    threading.Event().wait(1)
    return process.wake_ups() == before


def test_without_threads_a_stop_is_a_stop(process: Process) -> None:
    limit = resource.prlimit(process.process.pid, resource.RLIMIT_AS)
    few = process.size() + (4 << 20), limit[1]
    resource.prlimit(process.process.pid, resource.RLIMIT_AS, few)
    with Wire(process.path) as one:
        one.send(ACTIVATE)
        wait_until(lambda: process.says(b"cannot serve a connection, which waits"))
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(60) == 0
        assert one.rest() == b""
    assert not os.path.exists(process.path)


# --- how many -------------------------------------------------------------------------------------


def test_what_is_over_the_limit_waits_until_a_connection_ends(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plugin.stop()
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    plugin.start()
    with plugin.wire() as one, plugin.wire() as two, plugin.wire() as three, plugin.wire() as four:
        for served in (one, two, three):
            assert served.ask(ACTIVATE).status == 200
        four.send(ACTIVATE)
        wait_until(lambda: "3 connections are open; others wait until one ends" in caplog.messages)
        assert connections() == 3
        for served in (one, two, three):  # an idle one is not closed for it
            assert served.ask(ACTIVATE).status == 200
        two.close()
        assert four.answer().status == 200


def test_half_of_the_descriptors_are_the_drivers() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit, most in ((1000, 500), (100, 64), (hard, min(hard // 2, 1024))):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            with Server(Handler(TarBox()), []) as server:
                assert server._most == most
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_hundred_callers_are_served_at_a_time(ready: Plugin) -> None:
    ready.box.pause.clear()
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(ready.wire()) for _ in range(100)]
        for number, caller in enumerate(callers):
            caller.send(wire.call("Create", ID=f"a{number}"))
        wait_until(lambda: sum(ready.box.inside.values()) == 100)
        ready.box.pause.set()
        for caller in callers:
            assert caller.answer().members == {}


HEAPS = """
import ctypes, sys, threading
from graphdriver import Handler, Server, UnixListener
from tests.support.tarbox import TarBox
from tests.support.waiting import wait_until
from graphdriver.conformance.plugin import wire
from graphdriver.conformance.plugin.wire import Wire

box = TarBox()
server = Server(Handler(box), [UnixListener(sys.argv[1])])
serving = threading.Thread(target=server.serve_forever)
serving.start()
callers = [Wire(sys.argv[1]) for _ in range(20)]
callers[0].ask(wire.call("Init", Home=sys.argv[2]))
box.pause.clear()
for number, caller in enumerate(callers):
    caller.send(wire.call("Create", ID=f"a{number}"))
wait_until(lambda: sum(box.inside.values()) == 20)
box.pause.set()
for caller in callers:
    assert caller.answer().members == {}
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[3].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
for caller in callers:
    caller.close()
server.stop()
serving.join()
server.close()
"""
"""Makes 20 calls that run at a time; the C library tells what heaps there are (malloc_info(3))."""


def test_a_thread_for_each_long_call_is_no_heap_for_each() -> None:
    with tempfile.TemporaryDirectory(prefix="gd-") as folder:
        command = [
            sys.executable,
            "-c",
            HEAPS,
            f"{folder}/p.sock",
            f"{folder}/home",
            f"{folder}/told",
        ]
        path = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        subprocess.run(command, check=True, timeout=120, env=path)
        assert 1 <= Path(folder, "told").read_text().count("<heap nr=") <= 2


# --- how it ends ----------------------------------------------------------------------------------


@pytest.fixture
def quick(ready: Plugin, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugin]:
    """A plugin with a short grace."""
    monkeypatch.setattr(server_module, "GRACE", 0.5)
    yield ready


def test_a_stop_serves_who_has_connected_and_refuses_who_has_not() -> None:
    with tempfile.TemporaryDirectory(prefix="gd-") as folder:
        listener = UnixListener(f"{folder}/p.sock")
        server = Server(Handler(TarBox()), [listener])  # which accepts nobody yet
        with contextlib.ExitStack() as stack:
            waiting = [stack.enter_context(Wire(listener.path)) for _ in range(5)]
            for one in waiting:
                one.send(ACTIVATE)
            server.close()
            for one in waiting:
                answer = one.answer()
                assert b"GraphDriver" in answer.body
                assert answer.headers["connection"] == "close"
            with pytest.raises(FileNotFoundError):
                Wire(listener.path)


def test_while_a_stop_is_under_way_nobody_connects_and_is_forgotten() -> None:
    with tempfile.TemporaryDirectory(prefix="gd-") as folder:
        listener = UnixListener(f"{folder}/p.sock")
        with Wire(listener.path) as before:
            listener.refuse()
            with pytest.raises(ConnectionRefusedError):
                Wire(listener.path)
            accepted, _ = listener.socket.accept()
            accepted.close()
            assert before.rest() == b""
        listener.close()


def test_a_server_that_never_served_is_closed_and_may_be_closed_again() -> None:
    server = Server(Handler(TarBox()), [])
    server.close()
    server.close()


@contextlib.contextmanager
def without_descriptors() -> Iterator[None]:
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))


@pytest.mark.parametrize("is_locked", [True, False])
def test_a_stop_that_cannot_remove_the_socket_goes_on(tmp_path: Path, is_locked: bool) -> None:
    """Another process holds the lock and was stopped; or no descriptor is left for one."""
    path, home = str(tmp_path / "p.sock"), str(tmp_path / "home")
    server = Server(Handler(TarBox()), UnixListener(path))
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    with Client(path) as client:
        client.init(home)
    server.stop()
    serving.join()
    with locked(str(tmp_path)) if is_locked else without_descriptors():
        server.close()  # it ends though the lock is never free
    assert os.path.lexists(path)
    Home(home).close()
    UnixListener(path).close()
    assert not os.path.lexists(path)


def test_a_stop_ends_idle_and_half_begun_connections(ready: Plugin) -> None:
    with ready.wire() as idle, ready.wire() as half, ready.wire() as used:
        half.send(ACTIVATE[:20])
        assert used.ask(ACTIVATE).status == 200
        wait_until(lambda: connections() == 3)
        ready.stop()
        assert connections() == 0
        for one in (idle, half, used):
            assert one.rest() == b""


def test_a_stop_serves_the_first_request_of_a_caller_that_has_just_connected(
    ready: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "GRACE", 60)
    monkeypatch.setattr(server_module, "FIRST_REQUEST", 60)
    with ready.wire() as new:
        wait_until(lambda: connections() == 1)
        with ready.wire() as used:
            assert used.ask(ACTIVATE).status == 200
            stopping = threading.Thread(target=ready.stop)
            stopping.start()
            # The stop reaches connections in their order: the new one first.
            assert used.rest() == b""
        answer = new.ask(ACTIVATE)
        assert b"GraphDriver" in answer.body
        assert answer.headers["connection"] == "close"
        stopping.join()


def test_a_stop_serves_what_an_idle_connection_was_just_sent(ready: Plugin) -> None:
    for _ in range(50):
        with ready.wire() as daemon:
            assert daemon.ask(ACTIVATE).status == 200
            daemon.send(ACTIVATE)
            ready.stop()
            assert daemon.answer().status == 200
        ready.start()


def test_a_stop_cuts_off_who_does_not_read_and_lets_go_of_the_layer(
    quick: Plugin, caplog: pytest.LogCaptureFixture
) -> None:
    with quick.wire() as stuck:
        stuck.ask(wire.call("Create", ID="a"))
        with open(f"{quick.home}/a/tar", "wb") as file:
            file.truncate(50 << 20)
        stuck.send(wire.call("Diff", ID="a"))
        wait_until(lambda: quick.box.open_streams)
        quick.stop()
        assert quick.box.open_streams == 0
        assert "cut off after 0 s: diff a" in caplog.messages
        assert not stuck.answer().is_whole
    a_new_one_takes_the_home(quick)


def test_a_stop_cuts_off_who_does_not_send_and_the_layer_stays_unfinished(quick: Plugin) -> None:
    with quick.wire() as stuck:
        stuck.ask(wire.call("Create", ID="a"))
        stuck.send(wire.apply_head("a"), *wire.chunks(b"hello"))
        wait_until(lambda: ("apply_diff", "a", "") in quick.box.calls)
        quick.stop()
    a_new_one_takes_the_home(quick)
    quick.start()
    with quick.wire() as daemon:
        assert "remove it" in daemon.ask(wire.call("Get", ID="a")).error


def a_new_one_takes_the_home(plugin: Plugin) -> None:
    """See that a home is not held any more."""
    second = Handler(TarBox(), state_dir=str(plugin.folder / "state"))
    second.resume()
    second.close()


def test_a_stop_does_not_wait_for_a_driver_that_hangs_nor_gives_its_home_away(
    quick: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "RELEASE", 0.1)
    quick.box.pause.clear()
    with quick.wire() as stuck:
        stuck.send(wire.call("Get", ID="a"))
        wait_until(lambda: quick.box.inside.get("a"))
        quick.stop()
        with Client(quick.path) as client, pytest.raises(Exception, match="does not answer"):
            client.activate()
        with contextlib.closing(Handler(TarBox())) as other:
            answer = wire_init(other, quick.home)
        assert f"is in use by process {os.getpid()}" in answer
    quick.box.pause.set()
    wait_until(lambda: connections() == 0)


def wire_init(handler: Handler, home: str) -> str:
    """Say Init to a handler without a socket, and return the answer."""
    import io

    from graphdriver.docker.request_messages import Request

    body = io.BytesIO(b'{"Home":"%b"}' % home.encode())
    answer = handler.handle(Request("POST", "/GraphDriver.Init", "", body))
    assert isinstance(answer.body, bytes)
    return answer.body.decode()


def test_a_signal_at_any_time_is_a_stop() -> None:
    with tempfile.TemporaryDirectory(prefix="gd-") as folder:
        for number in (signal.SIGTERM, signal.SIGINT):
            listener = UnixListener(f"{folder}/p.sock")
            handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
            try:
                with Server(Handler(TarBox()), [listener]) as server:
                    server.install_signal_handlers()
                    os.kill(os.getpid(), number)  # before it serves
                    server.serve_forever()
                    os.kill(os.getpid(), number)  # and once more
                os.kill(os.getpid(), number)  # after it was closed
            finally:
                for one, handler in handlers.items():
                    signal.signal(one, handler)
            assert not os.path.exists(listener.path)


def test_no_thread_and_no_descriptor_is_left(plugin: Plugin) -> None:
    plugin.stop()

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    before = held()
    for _ in range(3):
        plugin.start()
        with plugin.client() as client:
            client.init(plugin.home, [], [], [])
            client.create("a", "", "", {})
            client.remove("a")
        plugin.stop()
    # A thread of an earlier test may end meanwhile.
    wait_until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))
