"""Layers that wait to be published are published after a restart, or a kill, of the snapshotter."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.containerd import publishing
from graphdriver.containerd.filling import Filler
from graphdriver.containerd.metadata import Metadata
from graphdriver.containerd.shared_layers import SharedSnapshots
from graphdriver.containerd.unpublished import Unpublished
from graphdriver.drivers.loading import make
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.layers import SharedLayers
from tests.containerd.test_diff_service import Diffs
from tests.containerd.test_publishing import LAYERS, LINKS, stored, unpack
from tests.support.containerd import Containerd
from tests.support.leftovers import mounts_below
from tests.support.snapshotter import Snapshotter
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root


@pytest.fixture
def shared(folder: Path) -> SharedLayers:
    """A store that is away until its directory ``chains`` is made."""
    (folder / "store").mkdir()
    return SharedLayers(DirectoryStore(str(folder / "store")))


@pytest.fixture(autouse=True)
def no_waiting_for_other_pulls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "QUIET", 0.0)


@pytest.fixture
def root(folder: Path) -> Iterator[Path]:
    yield folder / "snapshots"
    for point in mounts_below(folder / "snapshots"):
        subprocess.run(["umount", "--lazy", point], check=True)


@contextlib.contextmanager
def publishing_node(root: Path, shared: SharedLayers) -> Iterator[SharedSnapshots]:
    snapshots = SharedSnapshots(
        make("erofs"), str(root), ["sync=none"], shared=shared, publishes=True
    )
    with contextlib.closing(snapshots):
        yield snapshots


def prepare(snapshots: SharedSnapshots, number: int, parent: str) -> str:
    """Prepare a snapshot, and fill it with a layer; return its key."""
    key = f"default/{number}/extract"
    snapshots.prepare(key, parent, {})
    one = snapshots.stat(key)
    with snapshots.served.locks.held(one.layer, one.parent_layer or None, exclusive=True):
        tar = io.BytesIO(LAYERS[number])
        Filler(snapshots.served).fill(one.layer, one.parent_layer, tar)
    return key


def commit(snapshots: SharedSnapshots, number: int, parent: str = "") -> str:
    """Make the committed snapshot of a layer, as a pull does; return its key."""
    name = f"default/{number}/{LINKS[number].chain_id}"
    snapshots.commit(name, prepare(snapshots, number, parent), {})
    return name


def waiting(root: Path) -> list[str]:
    """Return the names of all files by which layers are remembered."""
    directory = root / ".graphdriver/unpublished"
    return sorted(os.listdir(directory)) if directory.exists() else []


def appear(shared: SharedLayers) -> None:
    Path(shared.store.address, "chains").mkdir()


def test_a_restart_and_a_kill_forget_no_layer(
    folder: Path, root: Path, shared: SharedLayers
) -> None:
    one = Snapshotter(folder, "erofs", "--shared", shared.store.address, "--publish", root=root)
    with one:
        with Containerd(folder, one.address).running() as containerd:
            diffs = Diffs(one, containerd)
            parent = unpack(diffs, one, LAYERS[0], "", LINKS[0].chain_id)
            one.kill()
            one.start()
            diffs = Diffs(one, containerd)
            parent = unpack(diffs, one, LAYERS[1], parent, LINKS[1].chain_id)
            last = unpack(diffs, one, LAYERS[2], parent, LINKS[2].chain_id)
        one.__exit__()
        assert len(waiting(root)) == 3
        one.start()
        one.calls.remove(last)
        one.kill()
        assert len(waiting(root)) == 2
        appear(shared)
        one.start()
        wait_until(lambda: all(map(shared.is_there, LINKS[:2])))
        wait_until(lambda: not waiting(root))
    assert len(stored(shared)) == 2
    assert "Traceback" not in one.log.read_text()


def test_a_kill_between_the_commit_and_what_follows_forgets_no_layer(
    root: Path, shared: SharedLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    appear(shared)
    with publishing_node(root, shared) as snapshots:
        with monkeypatch.context() as patch:
            patch.setattr(SharedSnapshots, "_publish", lambda *_: None)
            below = commit(snapshots, 0)
        key = prepare(snapshots, 1, below)
        with monkeypatch.context() as patch:
            patch.setattr(Metadata, "commit", fail)
            with pytest.raises(KeyboardInterrupt):
                snapshots.commit(f"default/1/{LINKS[1].chain_id}", key, {})
        assert len(waiting(root)) == 2
    with publishing_node(root, shared) as snapshots:  # the second one was never committed
        wait_until(lambda: shared.is_there(LINKS[0]))
        wait_until(lambda: not waiting(root))
        assert len(stored(shared)) == 1
        snapshots.commit(f"default/1/{LINKS[1].chain_id}", key, {})
        wait_until(lambda: shared.is_there(LINKS[1]))


def fail(*_: object) -> None:
    raise KeyboardInterrupt


def test_nothing_is_believed_of_the_files(
    root: Path, shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    with publishing_node(root, shared) as snapshots:
        commit(snapshots, 0)
        snapshots.prepare("default/2/container", "", {})
        snapshots.commit("default/2/kept", "default/2/container", {})  # no layer of an image
    directory = root / ".graphdriver/unpublished"
    (mine,) = waiting(root)
    for name in ("0", "2", "77", "9" * 18, "9" * 30, "-1", "a", "1.erofs", "²"):
        (directory / name).write_bytes(b"\0")
    (directory / mine).write_bytes(b"\xff" * 5000)
    (directory / "78").symlink_to("/nowhere")
    (directory / "79").mkdir()
    appear(shared)
    with publishing_node(root, shared):
        wait_until(lambda: shared.is_there(LINKS[0]))
        wait_until(lambda: mine not in waiting(root))
    assert len(stored(shared)) == 1
    assert waiting(root) == sorted(["0", "9" * 30, "-1", "a", "1.erofs", "²", "79"])
    assert caplog.text.count("is looked at again at the next start") == 1  # the directory


def test_a_store_that_is_full_gets_the_layer_again_later_and_after_a_restart(
    root: Path,
    shared: SharedLayers,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    appear(shared)
    with publishing_node(root, shared) as snapshots:
        with monkeypatch.context() as soon:
            soon.setattr(publishing, "RETRY", 0.05)
            with monkeypatch.context() as patch:
                patch.setattr(DirectoryStore, "put", full)
                below = commit(snapshots, 0)
                wait_until(lambda: caplog.text.count("was not published") >= 2)
                assert len(waiting(root)) == 1
            wait_until(lambda: shared.is_there(LINKS[0]))
        wait_until(lambda: not waiting(root))
        caplog.clear()
        with monkeypatch.context() as patch:
            patch.setattr(DirectoryStore, "put", full)
            commit(snapshots, 1, below)
            wait_until(lambda: "was not published, which is tried again in an hour" in caplog.text)
    with publishing_node(root, shared):
        wait_until(lambda: shared.is_there(LINKS[1]))


class Clock:
    """Goes on only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_nothing_is_published_while_layers_come(
    root: Path, shared: SharedLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    appear(shared)
    clock = Clock()
    monkeypatch.setattr(publishing, "time", clock)
    monkeypatch.setattr(publishing, "QUIET", 0.1)
    with publishing_node(root, shared) as snapshots:
        below = ""
        for number in range(4):
            below = commit(snapshots, number, below)
            clock.now += 0.06
            threading.Event().wait(0.3)
            assert stored(shared) == []
        clock.now += 0.06
        wait_until(lambda: all(map(shared.is_there, LINKS[:4])))


def full(*_: object) -> bool:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_takes_no_file_fails_no_pull(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    unpublished = Unpublished(str(tmp_path / "file/unpublished"))
    unpublished.add("1")
    assert "is published by this process, or not at all" in caplog.text
    unpublished.remove("1")
    assert unpublished.layers() == []


def test_without_publishing_nothing_is_noted(root: Path, shared: SharedLayers) -> None:
    snapshots = SharedSnapshots(make("erofs"), str(root), ["sync=none"], shared=shared)
    with contextlib.closing(snapshots):
        commit(snapshots, 0)
    assert not (root / ".graphdriver/unpublished").exists()
