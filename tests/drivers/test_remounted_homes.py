"""A filesystem comes and goes below a plugin that lives on, with every driver."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Client, mounted
from graphdriver.conformance.plugin import tars, wire
from graphdriver.conformance.plugin.wire import Wire
from graphdriver.errors import GraphDriverError
from tests.support.command import Serving
from tests.support.pieces import Pieces
from tests.support.traces import forget

pytestmark = pytest.mark.root

DRIVERS = {
    "vfs": "tmpfs",
    "overlay2": "tmpfs",
    "erofs": "tmpfs",
    "fuse-overlayfs": "tmpfs",
    "btrfs": "btrfs",
}
MANY = 2000


class Ground:
    """A directory where one of two filesystems is mounted, or none."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.path = directory / "data"
        self.home = str(self.path / "home")
        self._folder = directory
        self._sources = [str(directory / name) for name in ("one", "two")]
        self.path.mkdir()
        for source in self._sources:
            os.mkdir(source)
            if kind == "tmpfs":
                self._run("mount", "-t", "tmpfs", "gd", source)
            else:
                with open(f"{source}.img", "xb") as image:
                    image.truncate(256 << 20)
                self._run(f"mkfs.{kind}", "-q", f"{source}.img")
                self._run("mount", "-o", "loop", f"{source}.img", source)
            self._run("mount", "--make-private", source)

    def put(self, which: int) -> None:
        self._run("mount", "--bind", self._sources[which], str(self.path))

    def take_away(self, *options: str) -> None:
        """End the mount; fails if anybody uses what is there, unless an option says otherwise."""
        self._run("umount", *options, str(self.path))

    def let_go(self, which: int) -> None:
        """Unmount a filesystem for good; it must be used by nobody."""
        self._run("umount", self._sources[which])
        self._sources[which] = ""

    def close(self) -> None:
        while os.path.ismount(self.path):
            self.take_away("--lazy")
        for source in filter(None, self._sources):
            self._run("umount", "--lazy", source)

    @staticmethod
    def _run(*command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ground(driver: str, tmp_path: Path) -> Iterator[Ground]:
    with contextlib.closing(Ground(tmp_path, DRIVERS[driver])) as ground:
        yield ground


@contextlib.contextmanager
def served(driver: str, folder: Path) -> Iterator[Client]:
    # Its name is the plugin's, by which another run of these tests must not find it.
    directory = Path(tempfile.mkdtemp(prefix="gd", dir=folder))
    plugin = Serving(directory, driver).ready()
    try:
        with Client(plugin.socket, timeout=60) as client:
            yield client
            # Without it the alias of the home stays, for the containers (fuse-overlayfs).
            with contextlib.suppress(GraphDriverError):  # no home is served, or it is gone
                client.cleanup()
    finally:
        assert plugin.end() == 0
        forget(plugin.socket)


@pytest.fixture
def client(driver: str, ground: Ground, tmp_path: Path) -> Iterator[Client]:
    with served(driver, tmp_path) as client:
        yield client


def load(client: Client, id: str, parent: str, *names: bytes) -> None:
    client.create(id, parent, "", {})
    data = tars.tar(*(tars.file(name, name) for name in names))
    client.apply_diff(id, parent, Pieces(iter([data])))


def half_load(client: Client, id: str) -> None:
    """Load a layer whose transfer breaks off."""
    client.create(id, "", "", {})
    assert client.address.path
    with Wire(client.address.path) as daemon:
        daemon.send(wire.apply_head(id), *wire.chunks(tars.file(b"half", b"x" * 5000)[:4000]))
        assert "broke off" in daemon.end_sending().answer().error


def shown(client: Client, id: str) -> list[str]:
    with mounted(client, id) as root:
        return sorted(os.listdir(root))


def test_a_filesystem_that_is_mounted_anew_is_taken_up_anew(
    client: Client, ground: Ground, driver: str, tmp_path: Path
) -> None:
    ground.put(1)
    client.init(ground.home, [], [], [])
    half_load(client, "layer")
    load(client, "other", "", b"of-the-second")
    ground.take_away("--lazy")
    ground.put(0)
    client.init(ground.home, [], [], [])
    load(client, "layer", "", b"whole")
    load(client, "child", "layer", b"above")
    client.create("fresh", "", "", {})
    assert shown(client, "child") == ["above", "whole"]
    ground.put(1)  # upon the first, as a data disk that is mounted late
    with pytest.raises(GraphDriverError, match="transfer did not finish"):
        client.get("layer", "")
    with pytest.raises(GraphDriverError, match="only a layer that was just created"):
        client.apply_diff("fresh", "", Pieces(iter([tars.END])))
    assert not client.exists("child")
    assert shown(client, "other") == ["of-the-second"]
    with served(driver, tmp_path) as another, pytest.raises(GraphDriverError) as refusal:
        another.init(ground.home, [], [], [])
    assert "in use by process" in str(refusal.value)
    ground.take_away("--lazy")
    assert shown(client, "child") == ["above", "whole"]


def test_after_cleanup_the_filesystem_can_be_unmounted(client: Client, ground: Ground) -> None:
    ground.put(0)
    client.init(ground.home, [], [], [])
    load(client, "base", "", *(b"%d" % number for number in range(MANY)))
    load(client, "upper", "base", b"above")
    load(client, "gone", "", *(b"%d" % number for number in range(MANY)))
    client.get("upper", "")
    client.remove("gone")
    client.cleanup()
    ground.take_away()
    ground.let_go(0)


def test_a_call_after_cleanup_is_answered(client: Client, ground: Ground) -> None:
    ground.put(0)
    client.init(ground.home, [], [], [])
    load(client, "base", "", b"file")
    load(client, "upper", "base", b"above")
    client.cleanup()
    assert shown(client, "upper") == ["above", "file"]
    client.cleanup()
    ground.take_away()
    with pytest.raises(GraphDriverError, match="does not exist any more"):
        client.exists("base")
    ground.put(0)
    assert shown(client, "upper") == ["above", "file"]
