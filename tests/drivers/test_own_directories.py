"""What a driver keeps beside its layers is its own, whoever made the directory first."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from graphdriver.drivers.loading import load
from graphdriver.errors import UnsupportedError
from tests.drivers.every import OVERLAYS

OWN = [
    (driver, name)
    for driver in ("vfs", "overlay2", "erofs", "fuse-overlayfs", "btrfs")
    for name in (".trash", ".staging", "l")
    if name != "l" or driver in OVERLAYS
]

pytestmark = pytest.mark.root


@pytest.fixture
def made(request: pytest.FixtureRequest, driver: str, name: str, home: Path) -> Path:
    """A directory that somebody made where the driver wants its own."""
    if driver == "btrfs":
        home = Path(tempfile.mkdtemp(dir=request.getfixturevalue("btrfs")))
    path = home / name
    path.mkdir()
    return path


@pytest.mark.parametrize(("driver", "name"), OWN)
def test_one_that_others_may_write_to_is_taken_from_them(
    driver: str, made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made.chmod(0o777)
    load(driver)().init(str(made.parent), [], [], [])
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert f"{made} had mode 0777, which let other users write to it" in caplog.text
    os.rmdir(made)


@pytest.mark.parametrize(("driver", "name"), OWN)
def test_one_of_another_user_is_refused(driver: str, made: Path) -> None:
    os.chown(made, 1000, -1)
    with pytest.raises(UnsupportedError, match=f"{made} belongs to user 1000"):
        load(driver)().init(str(made.parent), [], [], [])
    os.rmdir(made)


@pytest.mark.parametrize(("driver", "name"), OWN)
def test_a_link_to_elsewhere_is_refused(driver: str, made: Path, tmp_path: Path) -> None:
    made.rmdir()
    made.symlink_to(tmp_path)
    with pytest.raises(UnsupportedError, match=f"{made} is in the way"):
        load(driver)().init(str(made.parent), [], [], [])
    made.unlink()
    assert os.listdir(tmp_path) == []
