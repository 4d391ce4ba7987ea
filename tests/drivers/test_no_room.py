"""A home on a filesystem without room: what is there is read and removed, by any process."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graphdriver import Client, Handler, Server, UnixListener
from graphdriver.conformance.kit.tree import record
from graphdriver.conformance.plugin import tars
from graphdriver.driver import Change, ChangeKind
from graphdriver.drivers.loading import load
from graphdriver.errors import RemoteError
from graphdriver.linux.mountinfo import mount_points
from tests.drivers.every import store_of
from tests.drivers.layers import read_diff, recorded
from tests.support.filesystems import loop, sync
from tests.support.full import fill, tmpfs, use_up_inodes
from tests.support.ground import require

pytestmark = pytest.mark.root

DRIVERS = ("overlay2", "erofs", "fuse-overlayfs", "vfs", "btrfs")
TAR = tars.tar(
    tars.directory(b"dir"), tars.file(b"dir/file", b"content"), tars.file(b"top", b"top")
)


@dataclasses.dataclass(frozen=True)
class Ground:
    """A filesystem, how its room is used up, and how there is some again."""

    name: str
    make: Callable[[Path], contextlib.AbstractContextManager[Path]]
    use_up: Callable[[Path], None]
    give_back: Callable[[Path], None]

    @property
    def is_read_only(self) -> bool:
        return self.use_up is read_only

    def suits(self, driver: str) -> bool:
        return driver != "btrfs" or self.name.startswith("btrfs")

    def __str__(self) -> str:
        return self.name


def read_only(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)


def writable(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)


def empty(place: Path) -> None:
    (place / "filler").unlink()
    sync(place)


def free_inodes(place: Path) -> None:
    for file in (place / "fillers").iterdir():
        file.unlink()
    sync(place)


def of_loop(kind: str, megabytes: int) -> Callable[[Path], contextlib.AbstractContextManager[Path]]:
    return lambda directory: loop(kind, directory, megabytes << 20)


def of_tmpfs(directory: Path) -> contextlib.AbstractContextManager[Path]:
    return tmpfs(directory / "tmpfs", 8192)


@contextlib.contextmanager
def of_few_inodes(directory: Path) -> Iterator[Path]:
    with tmpfs(directory / "tmpfs", 8192) as place:
        subprocess.run(["mount", "-o", "remount,nr_inodes=200", str(place)], check=True)
        yield place


@contextlib.contextmanager
def of_quota(directory: Path) -> Iterator[Path]:
    """A subvolume that may not hold more than so much."""
    with loop("btrfs", directory, 512 << 20) as above:
        place = above / "limited"
        for words in (
            ("subvolume", "create", str(place)),
            ("quota", "enable", str(above)),
            ("qgroup", "limit", "24M", str(place)),
        ):
            subprocess.run(["btrfs", *words], check=True, stdout=subprocess.DEVNULL)
        yield place


GROUNDS = (
    Ground("tmpfs-blocks", of_tmpfs, fill, empty),
    Ground("tmpfs-inodes", of_few_inodes, use_up_inodes, free_inodes),
    Ground("tmpfs-read-only", of_tmpfs, read_only, writable),
    Ground("ext4-blocks", of_loop("ext4", 64), fill, empty),
    Ground("ext4-inodes", of_loop("ext4-few-inodes", 64), use_up_inodes, free_inodes),
    Ground("ext4-read-only", of_loop("ext4", 64), read_only, writable),
    Ground("xfs-blocks", of_loop("xfs", 320), fill, empty),
    Ground("xfs-inodes", of_loop("xfs-few-inodes", 320), use_up_inodes, free_inodes),
    Ground("xfs-read-only", of_loop("xfs", 320), read_only, writable),
    Ground("btrfs-blocks", of_loop("btrfs", 128), fill, empty),
    Ground("btrfs-quota", of_quota, fill, empty),
    Ground("btrfs-read-only", of_loop("btrfs", 128), read_only, writable),
)


class Plugin:
    """A served driver that can be stopped and started."""

    def __init__(self, directory: Path, driver: str) -> None:
        self._folder = directory
        self._driver = driver
        self._path = str(directory / "p.sock")
        self.start()

    def start(self) -> None:
        self.driver: Any = load(self._driver)()
        self._handler = Handler(self.driver, state_dir=str(self._folder / "state"))
        self._server = Server(self._handler, [UnixListener(self._path)])
        self._handler.resume()
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.client = Client(self._path, timeout=60)

    def stop(self) -> None:
        self.client.close()
        self.settle()
        self._server.stop()
        self._thread.join()
        self._server.close()

    def settle(self) -> None:
        store_of(self.driver).settle()


@pytest.mark.parametrize(
    ("ground", "driver"),
    [(ground, driver) for driver in DRIVERS for ground in GROUNDS if ground.suits(driver)],
    ids=str,
)
def test_layers_are_read_and_removed_where_nothing_can_be_written(
    ground: Ground, driver: str, tmp_path: Path
) -> None:
    require(os.geteuid() == 0, "mounts need root")
    with ground.make(tmp_path) as place, tempfile.TemporaryDirectory(prefix="gd-") as own:
        plugin = Plugin(Path(own), driver)
        try:
            go_through(ground, place, plugin)
        finally:
            plugin.client.cleanup()
            plugin.stop()


def go_through(ground: Ground, place: Path, plugin: Plugin) -> None:
    home = str(place / "home")
    client = plugin.client
    client.init(home, [], [], [])
    client.create("a", "", "", {})
    client.apply_diff("a", "", io.BytesIO(TAR))
    for id in "bcde":
        client.create_read_write(id, "a", "", {})
        Path(client.get(id, ""), "new").write_text("new")
        client.put(id)
    client.get("d", "")
    facts = told(client)
    plugin.settle()
    sync(place)
    ground.use_up(place)

    assert told(client) == facts
    client.put("d")
    remove(client, "c", ground)

    plugin.stop()
    plugin.start()
    client = plugin.client
    assert told(client) == facts
    remove(client, "d", ground)

    client.init(home, [], [], [])  # of a daemon that was restarted
    assert told(client) == facts
    for id in "eba":
        remove(client, id, ground)

    ground.give_back(place)
    for id in "cdeba":
        client.remove(id)
        assert not client.exists(id)
    client.create("f", "", "", {})
    client.apply_diff("f", "", io.BytesIO(TAR))
    client.remove("f")
    plugin.settle()
    assert not os.listdir(place / "home/.trash")
    assert not os.listdir(place / "home/.staging")
    assert "Undeleted" not in dict(client.status())


@pytest.mark.parametrize(
    ("ground", "driver"),
    [
        (ground, driver)
        for driver in DRIVERS
        for ground in GROUNDS
        if ground.is_read_only and ground.suits(driver)
    ],
    ids=str,
)
def test_layers_are_got_on_a_read_only_filesystem(
    ground: Ground, driver: str, tmp_path: Path
) -> None:
    require(os.geteuid() == 0, "mounts need root")
    with ground.make(tmp_path) as place, tempfile.TemporaryDirectory(prefix="gd-") as own:
        plugin = Plugin(Path(own), driver)
        try:
            get_all(ground, place, plugin)
        finally:
            plugin.client.cleanup()
            plugin.stop()


def get_all(ground: Ground, place: Path, plugin: Plugin) -> None:
    client = plugin.client
    client.init(str(place / "home"), [], [], [])
    lay_three(client)
    before = all_shown(client)
    mounts = mounts_below(place)
    plugin.settle()
    sync(place)
    ground.use_up(place)

    assert all_shown(client) == before
    assert mounts_below(place) == mounts
    held = [client.get("c", ""), client.get("c", "")]
    with pytest.raises(OSError, match="Read-only file system"):
        Path(held[0], "new").write_text("")

    plugin.stop()
    plugin.start()
    client = plugin.client
    assert all_shown(client) == before  # with a Get and a Put of c, which is held twice
    assert [client.get("c", "")] * 2 == held
    if "MergedDir" in client.get_metadata("c"):
        assert client.get_metadata("c")["MergedDir"] == held[0]
    for _ in range(3):
        assert record(held[0]) == before["c"][0]
        client.put("c")
    assert mounts_below(place) == mounts
    for id in "bc":
        client.get(id, "")
    client.cleanup()
    assert mounts_below(place) == mounts

    client.init(str(place / "home"), [], [], [])
    client.get("c", "")
    ground.give_back(place)
    root = Path(client.get("c", ""))  # of a container, which must be able to write
    (root / "new").write_text("written")
    client.put("c")
    assert (root / "new").read_text() == "written"
    client.put("c")
    assert Change("/new", ChangeKind.ADDED) in changed(client, "c", "b")
    assert mounts_below(place) == mounts


def lay_three(client: Client) -> None:
    client.create("a", "", "", {})
    client.apply_diff("a", "", io.BytesIO(TAR))
    client.create("b", "a", "", {})
    client.apply_diff("b", "a", io.BytesIO(tars.tar(tars.file(b".wh.top"), tars.file(b"dir/b"))))
    client.create_read_write("c", "b", "", {})
    root = Path(client.get("c", ""))
    (root / "dir/file").unlink()
    (root / "dir/b").write_text("changed")
    client.put("c")


def all_shown(client: Client) -> dict[str, tuple[object, ...]]:
    """Return what each layer shows, and how it differs from all others."""
    return {
        id: (
            recorded(client, id),
            [(read_diff(client, id, other), changed(client, id, other)) for other in ("", *"abc")],
        )
        for id in "abc"
    }


def changed(client: Client, id: str, parent: str) -> list[Change]:
    return sorted(client.changes(id, parent), key=str)


def mounts_below(place: Path) -> list[bytes]:
    """Return where layers are mounted; images stay mounted for a while when nobody uses them."""
    below = os.fsencode(place) + b"/"
    points = (one for one in mount_points() if one.fstype != "erofs")
    return [one.point for one in points if one.point.startswith(below)]


def told(client: Client) -> object:
    """Return all that can be read of the layers."""
    return (
        dict(client.status()),
        client.exists("a"),
        client.exists("nothing"),
        dict(client.get_metadata("b")).keys(),
        sorted(client.changes("b", "a"), key=str),
        client.diff_size("b", "a"),
        read_diff(client, "b", "a"),
        read_diff(client, "a"),
    )


def remove(client: Client, id: str, ground: Ground) -> None:
    if ground.is_read_only:
        with pytest.raises(
            RemoteError, match=r"is read-only, as the kernel makes one|is the parent of layer"
        ):
            client.remove(id)
        assert client.exists(id)
    else:
        client.remove(id)
        assert not client.exists(id)
