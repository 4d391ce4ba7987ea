from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver.drivers.erofs.driver import ErofsDriver
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from tests.drivers.every import EVERY
from tests.drivers.layers import taking_up
from tests.support.filesystems import loop
from tests.support.ground import require


@pytest.fixture(scope="session")
def xfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with loop("xfs", tmp_path_factory.mktemp("xfs")) as place:
        yield place


@pytest.fixture(scope="session")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with loop("btrfs", tmp_path_factory.mktemp("btrfs"), 2 << 30) as place:
        yield place


@pytest.fixture(params=EVERY, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    """The name of one driver after another."""
    return str(request.param)


@pytest.fixture(scope="module")
def quick(name: str, request: pytest.FixtureRequest) -> Path:
    """A directory on the filesystem that is quickest for the driver."""
    require(os.geteuid() == 0, "mounts need root")
    path: Path = request.getfixturevalue("btrfs") if name == "btrfs" else Path("/dev/shm")
    return path


@pytest.fixture
def data_root(quick: Path) -> Iterator[Path]:
    """A new directory there, for homes of the driver."""
    with tempfile.TemporaryDirectory(dir=quick, prefix="gd-") as path:
        yield Path(path)


@pytest.fixture(params=["disk", "tmpfs", "xfs", "btrfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A new directory on one filesystem after another."""
    if request.param == "disk":
        yield tmp_path
        return
    above = Path("/dev/shm")
    if request.param != "tmpfs":
        above = request.getfixturevalue(request.param)
    with tempfile.TemporaryDirectory(dir=above) as directory:
        yield Path(directory)


TakeUp = Callable[..., Overlay2Driver]


@pytest.fixture
def home() -> Iterator[Path]:
    """A new directory on tmpfs for the layers of overlay2."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as directory:
        yield Path(directory)


@pytest.fixture
def take_up(home: Path) -> Iterator[TakeUp]:
    """Make a driver that has taken up `home`, or another one, with options; later ones are restarts."""
    with taking_up(Overlay2Driver, home) as take_up:
        yield take_up


TakeUpErofs = Callable[..., ErofsDriver]


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[TakeUpErofs]:
    """Make an erofs driver that has taken up `tmp_path`, with options; later ones are restarts."""
    with taking_up(ErofsDriver, tmp_path) as take_up:
        yield take_up
