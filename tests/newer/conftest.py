"""What the engines of Debian 12 cannot: collected by `tests/on_debian` alone, which runs newer ones."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.containerd.conftest import folder, snapshotter
from tests.containerd.containerd import Containerd
from tests.containerd.served import Snapshotter
from tests.e2e.conftest import busybox, small
from tests.e2e.daemon import Daemon
from tests.e2e.ground import ELSEWHERE, Docker, engine, new_folder

__all__ = ["busybox", "folder", "small", "snapshotter"]

collect_ignore_glob = [] if ELSEWHERE else ["test_*.py"]

OnSnapshotter = Callable[[str], contextlib.AbstractContextManager[Daemon]]


@pytest.fixture
def on_snapshotter(
    folder: Path, snapshotter: Snapshotter, tmp_path: Path
) -> Iterator[OnSnapshotter]:
    """Start a daemon whose images are on a snapshotter: ``ours``, or one of containerd's own."""
    config = {
        "containerd": str(folder / "c.sock"),
        "features": {"containerd-snapshotter": True},
    }
    docker = Docker(engine("dockerd"), engine("docker"), "")

    @contextlib.contextmanager
    def started(name: str) -> Iterator[Daemon]:
        one = Daemon(docker, new_folder(), tmp_path / f"{name}.log", name, config)
        with contextlib.closing(one) as daemon:
            daemon.start()
            yield daemon

    with Containerd(folder, snapshotter.address).running():
        yield started


@pytest.fixture
def daemon(on_snapshotter: OnSnapshotter) -> Iterator[Daemon]:
    """A daemon on our snapshotter."""
    with on_snapshotter("ours") as daemon:
        yield daemon
