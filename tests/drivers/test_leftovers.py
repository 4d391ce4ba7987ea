"""What a killed daemon left: mounts that were never put, and layers that were never finished."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver import Driver, NaiveDiffDriver
from graphdriver.docker.daemon import Peer
from graphdriver.docker.messages import InitRequest
from graphdriver.docker.session import DaemonSession
from graphdriver.driver import ProtoDriver
from graphdriver.drivers.btrfs.driver import BtrfsDriver
from graphdriver.drivers.erofs.driver import ErofsDriver
from graphdriver.drivers.overlay.fuse_overlayfs import FuseOverlayfsDriver
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.drivers.vfs.driver import VfsDriver

pytestmark = pytest.mark.root

OVERLAYS: dict[str, type[ProtoDriver]] = {
    "overlay2": Overlay2Driver,
    "erofs": ErofsDriver,
    "fuse-overlayfs": FuseOverlayfsDriver,
}
OTHERS: dict[str, type[ProtoDriver]] = {"vfs": VfsDriver, "btrfs": BtrfsDriver}
every_driver = pytest.mark.parametrize("name", [*OVERLAYS, *OTHERS], indirect=True)


class Process:
    """A process that lives until it is killed: a daemon, as far as a plugin can tell."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        peer = Peer.of_process(self._process.pid)
        assert peer
        self.peer = peer

    def kill(self) -> None:
        self._process.kill()
        with self._process:
            self._process.wait()


@pytest.fixture
def processes() -> Iterator[Callable[[], Process]]:
    made: list[Process] = []

    def make() -> Process:
        made.append(Process())
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture(params=OVERLAYS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Plugin:
    """A session with its driver, and how it is restarted."""

    def __init__(self, name: str, directory: Path) -> None:
        self.home = directory / "home"
        self._name = name
        self._state = str(directory / "state")
        self.start()

    def start(self) -> None:
        proto = {**OVERLAYS, **OTHERS}[self._name]()
        self.driver: Driver = proto if isinstance(proto, Driver) else NaiveDiffDriver(proto)
        self.session = DaemonSession(self.driver, self._state, ())

    def restart(self) -> None:
        self.session.close()
        self.start()
        self.session.resume()

    def init(self, peer: Peer | None, *, by_hand: bool = False) -> None:
        self.session.init(InitRequest(str(self.home)), peer, by_hand=by_hand)

    def make(self, *ids: str) -> None:
        """Make layers, each upon the one before."""
        for parent, id in zip(("", *ids), ids, strict=False):
            self.driver.create(id, parent, "", {})

    def mark(self, id: str) -> None:
        with self.session:
            self.session.served.home.mark(id)

    def is_mounted(self, id: str) -> bool:
        return os.path.ismount(self.home / id / "merged")

    def is_marked(self, id: str) -> bool:
        with self.session:
            return self.session.served.home.is_unfinished(id)


@pytest.fixture
def plugin(request: pytest.FixtureRequest, name: str) -> Iterator[Plugin]:
    above = request.getfixturevalue("btrfs") if name == "btrfs" else Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=above, prefix="gd-") as directory:
        plugin = Plugin(name, Path(directory))
        yield plugin
        plugin.driver.cleanup()
        plugin.session.close()


def test_a_mount_of_a_layer_with_a_child_is_let_go_and_others_count_once(
    plugin: Plugin, processes: Callable[[], Process]
) -> None:
    first, second = processes(), processes()
    plugin.init(first.peer)
    plugin.make("one", "two", "three")
    for id in ("two", "three"):
        for _ in range(3):
            plugin.driver.get(id, "")
    first.kill()
    plugin.init(second.peer)
    assert not plugin.is_mounted("two")
    assert plugin.is_mounted("three")
    plugin.driver.put("three")
    assert not plugin.is_mounted("three")
    # What was let go of is held by nobody.
    plugin.driver.get("two", "")
    plugin.driver.put("two")
    assert not plugin.is_mounted("two")


def test_a_mount_that_is_used_stays(plugin: Plugin, processes: Callable[[], Process]) -> None:
    first, second = processes(), processes()
    plugin.init(first.peer)
    plugin.make("one", "two", "three")
    fd = os.open(plugin.driver.get("two", ""), os.O_RDONLY)
    try:
        first.kill()
        plugin.init(second.peer)
        assert plugin.is_mounted("two")
    finally:
        os.close(fd)
    plugin.driver.put("two")
    assert not plugin.is_mounted("two")


@every_driver
def test_a_half_layer_is_removed(plugin: Plugin, processes: Callable[[], Process]) -> None:
    first, second = processes(), processes()
    plugin.init(first.peer)
    plugin.make("whole", "half")
    plugin.mark("half")
    first.kill()
    plugin.restart()
    assert plugin.driver.exists("half")
    plugin.init(second.peer)
    assert [plugin.driver.exists(id) for id in ("whole", "half")] == [True, False]
    assert not plugin.is_marked("half")


@every_driver
def test_a_half_layer_with_a_child_stays(plugin: Plugin, processes: Callable[[], Process]) -> None:
    first, second = processes(), processes()
    plugin.init(first.peer)
    plugin.make("half", "child")
    plugin.mark("half")
    first.kill()
    plugin.init(second.peer)
    assert plugin.driver.exists("half")
    assert plugin.is_marked("half")


def test_a_half_layer_that_is_mounted_stays(
    plugin: Plugin, processes: Callable[[], Process]
) -> None:
    first, second = processes(), processes()
    plugin.init(first.peer)
    plugin.make("whole", "half")
    plugin.driver.get("half", "")
    plugin.mark("half")
    first.kill()
    plugin.init(second.peer)
    assert plugin.is_mounted("half")
    assert plugin.is_marked("half")


Case = Callable[[Plugin, Process, Process], None]


def the_daemon_cannot_be_told(plugin: Plugin, first: Process, _second: Process) -> None:
    first.kill()
    plugin.init(None)


def the_former_daemon_cannot_be_told(plugin: Plugin, _first: Process, second: Process) -> None:
    plugin.init(None)
    plugin.init(second.peer)


def only_the_plugin_is_restarted(plugin: Plugin, _first: Process, _second: Process) -> None:
    plugin.restart()


def the_plugin_is_restarted_after_the_daemon_died(
    plugin: Plugin, first: Process, _second: Process
) -> None:
    first.kill()
    plugin.restart()


def the_same_daemon_says_init_again(plugin: Plugin, first: Process, _second: Process) -> None:
    plugin.init(first.peer)


def the_former_daemon_lives(plugin: Plugin, _first: Process, second: Process) -> None:
    plugin.init(second.peer)


def init_is_made_by_hand(plugin: Plugin, first: Process, second: Process) -> None:
    first.kill()
    plugin.init(second.peer, by_hand=True)


@pytest.mark.parametrize(
    "case",
    [
        the_daemon_cannot_be_told,
        the_former_daemon_cannot_be_told,
        only_the_plugin_is_restarted,
        the_plugin_is_restarted_after_the_daemon_died,
        the_same_daemon_says_init_again,
        the_former_daemon_lives,
        init_is_made_by_hand,
    ],
)
def test_nothing_is_let_go_of_unless_the_former_daemon_is_known_to_be_gone(
    plugin: Plugin, processes: Callable[[], Process], case: Case
) -> None:
    first, second = processes(), processes()
    plugin.init(first.peer)
    plugin.make("one", "two", "three")
    plugin.driver.get("two", "")
    plugin.make("half")
    plugin.mark("half")
    case(plugin, first, second)
    assert plugin.is_mounted("two")
    assert plugin.is_marked("half")
    assert plugin.driver.exists("half")


def test_an_init_of_another_home_touches_neither(
    plugin: Plugin, processes: Callable[[], Process]
) -> None:
    first, second = processes(), processes()
    plugin.init(first.peer)
    plugin.make("half")
    plugin.mark("half")
    first.kill()
    home, plugin.home = plugin.home, plugin.home.with_name("other")
    plugin.init(second.peer)
    assert (home / "half").is_dir()
    assert (home / ".graphdriver/applying/half").exists()


@every_driver
def test_what_cannot_be_removed_stops_no_init(
    plugin: Plugin, processes: Callable[[], Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = processes(), processes()
    plugin.init(first.peer)
    plugin.make("half")
    plugin.mark("half")
    first.kill()

    def fail(_id: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(plugin.driver, "remove", fail)
    plugin.init(second.peer)
    assert plugin.is_marked("half")
