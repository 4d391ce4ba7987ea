"""Where plugins remember their daemons: each in a place of its own, as long as it can be of use."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdriver import UnixListener
from graphdriver.docker import state
from graphdriver.docker.address.listeners import PLUGIN_SOCKETS
from graphdriver.docker.daemon import Daemon, InitFile, Peer
from graphdriver.docker.messages import InitRequest
from graphdriver.docker.state import make_state_directory, state_name
from graphdriver.errors import UnsupportedError
from graphdriver.files.path_lock import locked
from graphdriver.files.runtime_directory import file_name, mark_namespaces, path_of

PIECES: Final = [
    "/",
    "-",
    "%",
    "%2F",
    "=",
    ".",
    ":",
    "a",
    "q",
    "r",
    ".sock",
    "name=",
    "\udcff",
    "é",
]
paths = st.lists(st.sampled_from(PIECES), max_size=90).map(lambda some: "/" + "".join(some))


class Place:
    """A listener, as far as its place goes."""

    def __init__(self, path: str, address: str) -> None:
        self.path = path
        self.address = address


def unix(path: str) -> tuple[str, str]:
    """Return a socket's place, by its true path."""
    directory, file = os.path.split(path)
    true = os.path.join(os.path.realpath(directory), file)
    return true, state_name(Place(path, ""))  # type: ignore[arg-type]


def port(address: str) -> tuple[str, str]:
    return address, state_name(Place("", address))  # type: ignore[arg-type]


def named(name: str) -> tuple[str, str]:
    return f"the plugin {name}", state_name(Place("", "tcp://127.0.0.1:0"), name)  # type: ignore[arg-type]


places = st.one_of(
    paths.map(unix),
    st.sampled_from(["a", "q", "q.sock", "held", "shown", "locks", "plugins", "a.sock.sock"]).map(
        lambda name: unix(f"{PLUGIN_SOCKETS}/{name}.sock")
    ),
    st.sampled_from([f"{PLUGIN_SOCKETS}/a", f"{PLUGIN_SOCKETS}/a/a.sock", "/a.sock"]).map(unix),
    st.sampled_from(["tcp://127.0.0.1:1", "tcp://127.0.0.1:11", "https://[::1]:1"]).map(port),
    st.sampled_from(["a", "q", "q.sock", "held"]).map(named),
)


@given(places, places)
def test_places_that_are_not_the_same_have_not_the_same_state(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    assert (one[0] == other[0]) == (one[1] == other[1])
    assert "/" not in one[1]
    assert len(os.fsencode(one[1])) <= 255


@given(paths, paths)
def test_paths_that_are_not_the_same_have_not_the_same_file(one: str, other: str) -> None:
    assert (one == other) == (file_name(one) == file_name(other))
    assert path_of(file_name(one)) in (one, None)
    if len(os.fsencode(one)) < 80:
        assert path_of(file_name(one)) == one


def test_a_place_that_is_reached_in_two_ways_is_one(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("d")
    assert unix(f"{tmp_path}/link/p.sock")[1] == unix(f"{tmp_path}/d//p.sock")[1]


@pytest.fixture
def states() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="gd-") as path:
        os.chmod(path, 0o755)
        yield os.path.join(path, "run", "plugins")


def remembered(
    states: str, state: str, home: Path, peer: Peer | None, *, left: bool = False
) -> Path:
    InitFile(os.path.join(states, state)).write(Daemon(InitRequest(str(home), ()), peer, left))
    mark_namespaces(os.path.join(states, state))
    return Path(states, state, "init.json")


@pytest.fixture
def alive() -> Iterator[Peer]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        peer = Peer.of_process(process.pid)
        assert peer
        yield peer


def gone() -> Peer:
    return Peer(os.getpid(), start=1)  # another process has its number now


def test_what_is_of_no_use_to_anybody_goes_when_another_plugin_starts(
    states: str, alive: Peer, tmp_path: Path
) -> None:
    home, lost = tmp_path, tmp_path / "lost"
    of_use = [
        remembered(states, "its-daemon-lives", home, alive),
        remembered(states, "its-daemon-lives-elsewhere", lost, alive),
        remembered(states, "name=its-daemon-may-live", home, None),
    ]
    useless = [
        remembered(states, "its-daemon-left", home, alive, left=True),
        remembered(states, "its-daemon-died", home, gone()),
        remembered(states, file_name("/nowhere/p.sock"), home, gone()),
        remembered(states, "name=left-over-tcp", home, None, left=True),
        remembered(states, "name=its-home-is-gone", lost, None),
        remembered(states, "damaged", home, alive),
    ]
    useless[-1].write_text("{")
    os.mkdir(f"{states}/never-used")
    mark_namespaces(f"{states}/never-used")
    Path(states, "a-file").touch()
    Path(states, "a-directory", "init.json").mkdir(parents=True)
    mine = make_state_directory("mine", states)
    assert sorted(os.listdir(states)) == sorted(
        [*(one.parent.name for one in of_use), os.path.basename(mine), "a-file", "a-directory"]
    )
    assert all(one.exists() for one in of_use)


def test_two_plugins_that_start_do_not_sweep_each_other(
    states: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one, over TCP, has the directory of one that was killed, and is about to mark it."""

    def mark(directory: str) -> None:
        monkeypatch.undo()
        make_state_directory("other", states)
        mark_namespaces(directory)

    remembered(states, "name=mine", tmp_path / "lost", None)
    monkeypatch.setattr(state, "mark_namespaces", mark)
    make_state_directory("name=mine", states)
    assert os.listdir(states) == ["name=mine"]  # the other one does not listen anywhere


def test_a_plugin_that_stopped_in_its_middle_holds_up_no_other(states: str, tmp_path: Path) -> None:
    stopped = remembered(states, "stopped", tmp_path, gone())
    with locked(states), locked(str(stopped.parent)):
        make_state_directory("mine", states)
        remembered(states, "mine", tmp_path, gone())
    assert stopped.exists()


def test_what_a_killed_plugin_knew_stays_while_its_socket_does(states: str, tmp_path: Path) -> None:
    path = f"{os.path.dirname(os.path.dirname(states))}/p.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
    kept = remembered(states, file_name(path), tmp_path, gone())
    mine = remembered(states, "mine", tmp_path, gone())
    make_state_directory("mine", states)
    assert kept.exists()
    assert mine.exists()
    os.unlink(path)
    make_state_directory("mine", states)
    assert not kept.exists()
    assert mine.exists()


@pytest.mark.root
def test_what_other_namespaces_know_is_left_alone(states: str, tmp_path: Path) -> None:
    theirs = remembered(states, "theirs", tmp_path / "not-seen-here", gone())
    sweep = f"from graphdriver.docker import state; state.make_state_directory('p', {states!r})"
    program = [sys.executable, "-c", sweep]
    subprocess.run(["unshare", "--mount", *program], check=True)
    subprocess.run(["unshare", "--pid", "--fork", *program], check=True)
    assert theirs.exists()
    subprocess.run(program, check=True)
    assert not theirs.exists()


def test_a_state_directory_that_cannot_be_made_is_named() -> None:
    with pytest.raises(
        UnsupportedError, match="the state directory /proc/nope/plugins/p cannot be made: No such"
    ):
        make_state_directory("p", "/proc/nope/plugins")


@pytest.mark.root
def test_a_state_directory_of_another_user_is_refused(states: str) -> None:
    path = make_state_directory("p", states)
    os.chown(path, 1000, -1)
    with pytest.raises(UnsupportedError, match=f"{path} belongs to user 1000"):
        make_state_directory("p", states)


@pytest.mark.root
def test_a_state_that_others_may_write_to_is_taken_from_them(
    states: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_state_directory("p", states)
    os.chmod(path, 0o777)
    make_state_directory("p", states)
    assert os.stat(path).st_mode & 0o077 == 0
    assert f"{path} had mode 0777" in caplog.text


def test_a_real_listeners_state_is_told_from_its_place(states: str) -> None:
    path = f"{os.path.dirname(os.path.dirname(states))}/p.sock"
    listener = UnixListener(path)
    listener.close()
    assert path_of(state_name(listener)) == path
