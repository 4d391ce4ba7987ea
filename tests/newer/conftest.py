"""What the engines of Debian 12 cannot: collected by `tests/on_debian` alone, which runs newer ones."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.containerd import Containerd
from tests.support.daemon import Daemon
from tests.support.ground import ELSEWHERE, Docker, engine, new_folder
from tests.support.small_image import small_image, static_busybox
from tests.support.snapshotter import DRIVERS, Snapshotter, on_driver

collect_ignore_glob = [] if ELSEWHERE else ["test_*.py"]

OnSnapshotter = Callable[[str], contextlib.AbstractContextManager[Daemon]]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name on tmpfs."""
    with tempfile.TemporaryDirectory(prefix="gds-", dir="/dev/shm") as path:
        yield Path(path)


@pytest.fixture(params=DRIVERS)
def snapshotter(request: pytest.FixtureRequest, folder: Path) -> Iterator[Snapshotter]:
    """A snapshotter that runs, over each driver."""
    with on_driver(request.param, folder) as one:
        yield one


@pytest.fixture(scope="session")
def busybox() -> bytes:
    return static_busybox()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, busybox: bytes) -> Path:
    """An image called ``small``, to be loaded."""
    return small_image(tmp_path_factory.mktemp("small"), busybox)


EITHER_DIFFER = pytest.mark.parametrize(
    "our_differ", [False, pytest.param(True, marks=pytest.mark.long)]
)


@pytest.fixture
def our_differ() -> bool:
    """Whether layers are applied and made by our diff service; a test may have `EITHER_DIFFER`."""
    return False


@pytest.fixture
def on_snapshotter(
    folder: Path, snapshotter: Snapshotter, our_differ: bool, tmp_path: Path
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

    with Containerd(folder, snapshotter.address, our_differ=our_differ).running():
        yield started


@pytest.fixture
def daemon(on_snapshotter: OnSnapshotter) -> Iterator[Daemon]:
    """A daemon on our snapshotter."""
    with on_snapshotter("ours") as daemon:
        yield daemon
