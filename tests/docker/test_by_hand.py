"""What is called by hand does not disturb a daemon that lives; what a daemon calls is served."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Client
from graphdriver.conformance.plugin import wire
from graphdriver.docker.http.requests import BY_HAND
from graphdriver.docker.protocol import CALLS
from tests.support.plugin import Plugin
from tests.support.waiting import wait_until

MARK = f"{BY_HAND}: 1"

DISTURBING = ["Init", "Create", "CreateReadWrite", "Put", "Remove", "ApplyDiff", "Cleanup"]
OTHERS = ["Capabilities", "Status", "Exists", "Get", "GetMetadata", "Changes", "DiffSize", "Diff"]

DAEMON = """
import sys
from graphdriver import Client
with Client(sys.argv[1]) as client:
    client.init(sys.argv[2], [], [], [])
    if not client.exists("a"):
        client.create("a", "", "", {})
    print("there", flush=True)
    if sys.stdin.readline():
        client.cleanup()
        print("clean", flush=True)
    sys.stdin.read()
"""
"""Sends Init and lives; calls Cleanup when it is given a line."""

PLUGIN = """
import sys
from graphdriver import Handler, UnixListener, serve
from tests.support.tarbox import TarBox
serve(Handler(TarBox(), state_dir=sys.argv[2]), UnixListener(sys.argv[1]))
"""

ELSEWHERE = ["unshare", "--pid", "--fork", "--kill-child"]
WHOLLY_ELSEWHERE = [*ELSEWHERE, "--mount-proc"]


def asked(method: str, home: str, *headers: str) -> bytes:
    """Return the bytes of a call for the layer ``a``."""
    call = {
        "Init": lambda: wire.call("Init", Home=home),
        "ApplyDiff": lambda: wire.apply("a", b""),
    }.get(method, lambda: wire.call(method, ID="a"))()
    line, _, rest = call.partition(b"\r\n")
    return b"\r\n".join([line, *(one.encode() for one in headers), rest])


def refusal(to: str | tuple[str, int], method: str, home: str, *headers: str) -> str:
    """Make one call and return what it was refused with; "" if it was served, or failed otherwise."""
    with wire.Wire(to) as caller:
        answer = caller.ask(asked(method, home, *headers))
    if "made by hand" not in answer.rejection:
        return ""
    assert answer.status == 500
    assert "--force" in answer.rejection
    return answer.rejection


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until it has said a line, and kill it at the end."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def daemon(path: str, home: str, *prefix: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has sent Init, made a layer, and lives."""
    with running(*prefix, sys.executable, "-c", DAEMON, path, home) as process:
        assert process.stdout
        assert process.stdout.readline() == b"there\n"
        yield process


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_of_marked_calls_those_that_disturb_are_refused_while_the_daemon_lives(
    plugin: Plugin, tcp: bool
) -> None:
    to = ("127.0.0.1", plugin.port) if tcp else plugin.path
    with daemon(plugin.path, plugin.home) as process:
        for method in DISTURBING:
            before = list(plugin.box.calls), len(plugin.box.inits)
            assert f"process {process.pid}, which lives" in refusal(to, method, plugin.home, MARK)
            assert (plugin.box.calls, len(plugin.box.inits)) == before
        assert [refusal(to, method, plugin.home, MARK) for method in OTHERS] == [""] * len(OTHERS)
    # It is dead, and did not say Cleanup.
    for method in DISTURBING:
        assert refusal(to, method, plugin.home, MARK) == ""


def test_unmarked_calls_are_never_refused_for_it(plugin: Plugin) -> None:
    with daemon(plugin.path, plugin.home):
        for method in [*DISTURBING, *OTHERS]:
            assert refusal(plugin.path, method, plugin.home) == ""
            assert refusal(plugin.path, method, plugin.home, "Other: 1") == ""


def test_every_call_is_in_one_of_the_lists() -> None:
    assert sorted([*DISTURBING, *OTHERS, "Activate"]) == sorted(call.name for call in CALLS)
    assert sorted(DISTURBING) == sorted(call.name for call in CALLS if call.disturbs)


def test_of_a_daemon_over_tcp_only_its_cleanup_tells_that_it_is_gone(plugin: Plugin) -> None:
    with Client(f"tcp://127.0.0.1:{plugin.port}") as client:
        client.init(plugin.home, [], [], [])
        client.create("a", "", "", {})
    for method in DISTURBING:
        assert "process is unknown" in refusal(plugin.path, method, plugin.home, MARK)
    with Client(f"tcp://127.0.0.1:{plugin.port}") as client:
        client.cleanup()
    for method in DISTURBING:
        assert refusal(plugin.path, method, plugin.home, MARK) == ""


@pytest.mark.root
def test_a_daemon_in_another_pid_namespace_is_known_by_its_process_here(plugin: Plugin) -> None:
    with daemon(plugin.path, plugin.home, *WHOLLY_ELSEWHERE) as process:
        said = refusal(plugin.path, "Cleanup", plugin.home, MARK)
        assert ", which lives" in said
        assert "process 1," not in said
        assert f"process {process.pid}," not in said  # that is unshare
    wait_until(lambda: refusal(plugin.path, "Cleanup", plugin.home, MARK) == "")


@pytest.mark.root
@pytest.mark.parametrize("prefix", [ELSEWHERE, WHOLLY_ELSEWHERE], ids=["our /proc", "own /proc"])
def test_a_plugin_in_another_pid_namespace_goes_by_cleanup(
    tmp_path: Path, prefix: list[str]
) -> None:
    path, home = f"/tmp/gd-by-hand-{os.getpid()}.sock", str(tmp_path / "home")
    command = [*prefix, sys.executable, "-c", PLUGIN, path, str(tmp_path / "state")]
    with running(*command):
        wait_until(lambda: os.path.exists(path))
        with daemon(path, home) as process:
            assert "process is unknown" in refusal(path, "Remove", home, MARK)
            assert process.stdin
            assert process.stdout
            process.stdin.write(b"clean up\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"clean\n"
            assert refusal(path, "Remove", home, MARK) == ""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


@pytest.mark.root
@pytest.mark.parametrize(("prefix", "known"), [(ELSEWHERE, False), (WHOLLY_ELSEWHERE, True)])
def test_no_process_is_taken_for_another_that_has_its_number_elsewhere(
    prefix: list[str], known: bool
) -> None:
    code = (
        "import os; from graphdriver.docker.daemon import Peer; print(Peer.of_process(os.getpid()))"
    )
    told = subprocess.run([*prefix, sys.executable, "-c", code], capture_output=True, check=True)
    assert told.stdout == (b"process 1\n" if known else b"None\n")


def test_after_an_init_by_hand_no_daemon_is_disturbed(plugin: Plugin) -> None:
    for port in (False, True):
        address = f"tcp://127.0.0.1:{plugin.port}" if port else plugin.path
        with Client(address, by_hand=True) as client:
            client.init(plugin.home, [], [], [])
            plugin.restart()
        with daemon(plugin.path, plugin.home):
            assert refusal(plugin.path, "Init", plugin.home, MARK)
    # This very process has sent Init and lives; but it did so by hand.
    with Client(f"tcp://127.0.0.1:{plugin.port}", by_hand=True) as client:
        client.init(plugin.home, [], [], [])
        client.create("b", "", "", {})
        client.cleanup()


def test_a_restarted_plugin_knows_for_whom_it_served_before_its_home_is_taken_up(
    plugin: Plugin,
) -> None:
    with daemon(plugin.path, plugin.home) as process:
        os.rename(plugin.home, plugin.home + ".away")
        plugin.restart()
        assert f"process {process.pid}" in refusal(plugin.path, "Init", plugin.home, MARK)
        assert not os.path.exists(plugin.home)


def test_where_the_memory_is_damaged_no_init_by_hand_takes_the_place(plugin: Plugin) -> None:
    with daemon(plugin.path, plugin.home):
        plugin.stop()
        (plugin.folder / "state/init.json").write_text("{")
        plugin.start()
        assert "init.json is damaged" in refusal(plugin.path, "Init", plugin.home, MARK)
        assert refusal(plugin.path, "Init", plugin.home) == ""
