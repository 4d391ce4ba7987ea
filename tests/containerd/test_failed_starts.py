"""A server or a root that cannot start, or ends, leaves no thread, no lock and no socket behind."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.containerd import server
from graphdriver.containerd.filling import Filler
from graphdriver.containerd.server import SnapshotterServer
from graphdriver.containerd.shared_layers import SharedSnapshots
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.drivers.loading import make
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import UnsupportedError
from graphdriver.serving.served_home import ServedHome
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.layers import SharedLayers
from tests.support.leftovers import mounts_below

pytestmark = pytest.mark.root


def fails(error: BaseException) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> Any:
        raise error

    return call


def threads_since(before: set[threading.Thread]) -> list[str]:
    """Return the names of new threads that do not end."""
    left = [one for one in threading.enumerate() if one not in before]
    for one in left:
        one.join(60)
    return [one.name for one in left if one.is_alive()]


READ_ONLY = OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.mark.parametrize(
    ("where", "name", "error", "told"),
    [
        (os, "chown", READ_ONLY, "Read-only file system"),
        (os, "rename", READ_ONLY, "Read-only file system"),
        (ServedHome, "listens_at", READ_ONLY, "Read-only file system"),
        (grpc, "server", RuntimeError("Failed to bind"), "Failed to bind"),
        (server, "Differ", MemoryError(), None),
    ],
)
def test_a_server_that_cannot_start(
    folder: Path, where: Any, name: str, error: BaseException, told: str | None
) -> None:
    address = str(folder / "sockets" / "s.sock")
    with contextlib.closing(Snapshots(VfsDriver(), str(folder / "root"))) as snapshots:
        before = set(threading.enumerate())
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(where, name, fails(error))
            with pytest.raises(UnsupportedError if told else type(error), match=told):
                SnapshotterServer(snapshots, address)
        assert threads_since(before) == []
        assert os.listdir(folder / "sockets") == []
        with SnapshotterServer(snapshots, address):
            assert os.listdir(folder / "sockets") == ["s.sock"]


@pytest.mark.parametrize("name", ["publisher", "in place"])
def test_a_root_whose_threads_cannot_start(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    (folder / "store").mkdir()
    store = SharedLayers(DirectoryStore(str(folder / "store")))

    def root() -> SharedSnapshots:
        return SharedSnapshots(
            make("erofs"), str(folder / "root"), shared=store, publishes=True, in_place=True
        )

    before = set(threading.enumerate())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", started)
        with pytest.raises(RuntimeError, match="new thread"):
            root()
    assert threads_since(before) == []
    root().close()


def test_closed_snapshots_leave_no_thread_and_no_image(folder: Path) -> None:
    before = set(threading.enumerate())
    root = folder / "root"
    tar = io.BytesIO(tars.tar(tars.file(b"a", b"content")))
    with contextlib.closing(Snapshots(make("erofs"), str(root), ["sync=none"])) as snapshots:
        snapshots.prepare("a", "", {})
        layer = snapshots.stat("a").layer
        Filler(snapshots.served).fill(layer, "", tar)
        snapshots.commit("A", "a", {})
        snapshots.prepare("b", "A", {})
        snapshots.remove("b")
        assert mounts_below(root)
    assert [one.name for one in threading.enumerate() if one not in before] == []
    assert mounts_below(root) == []
