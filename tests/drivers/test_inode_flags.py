"""Inode flags that forbid changes, anywhere in a layer, stop no call that ends or reads one."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.drivers.overlay.aliases import DirectoryAlias
from graphdriver.linux import btrfs as calls
from tests.drivers.every import TREE, store_of, taken_up
from tests.drivers.layers import read_diff, recorded
from tests.support.ground import require

pytestmark = pytest.mark.root

TAR = tars.tar(
    tars.directory(b"dir"), tars.file(b"dir/file", b"content"), tars.file(b"top", b"top")
)
PLACES = {"root": "", "directory": "dir", "file": "dir/file", "file at the top": "top"}


@pytest.fixture
def home(btrfs: Path, name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new home on btrfs, where every driver works and every flag can be set."""
    require(os.geteuid() == 0, "flags and mounts need root")
    home = btrfs / tmp_path_factory.mktemp("home").name / name
    home.mkdir(parents=True)
    yield home
    DirectoryAlias(str(home)).unmount()  # fuse-overlayfs shows a home until its Cleanup
    subprocess.run(["chattr", "-R", "-f", "-i", "-a", str(home)], check=False)


def flag(path: Path, flags: str) -> None:
    subprocess.run(["chattr", f"+{flags}", str(path)], check=True)


@pytest.mark.parametrize("flags", ["i", "a", "ia"])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_flags_stop_no_remove_no_child_and_no_diff(
    name: str, home: Path, place: str, flags: str
) -> None:
    driver = taken_up(name, home)
    driver.create("a", "", "", {})
    driver.apply_diff("a", "", io.BytesIO(TAR))
    driver.create_read_write("b", "a", "", {})
    root = Path(driver.get("b", ""))
    (root / "dir/file").write_text("changed")
    (root / "top").write_text("changed")
    driver.put("b")
    diff = read_diff(driver, "b", "a")
    flagged = [home / id / TREE[name] / place for id in "ab"]
    for path in filter(Path.exists, flagged):  # what was applied is in an image on erofs
        flag(path, flags)
    tree = recorded(driver, "a")
    assert read_diff(driver, "b", "a") == diff
    driver.create("c", "b", "", {})
    assert recorded(driver, "a") == tree
    assert recorded(driver, "c") == recorded(driver, "b")
    assert [*driver.changes("c", "b")] == []
    for id in "cba":
        driver.remove(id)
        assert not driver.exists(id)
        store_of(driver).settle()
        assert os.listdir(home / ".trash") == []
    assert "Undeleted" not in dict(driver.status())


@pytest.mark.parametrize("flags", ["i", "a"])
def test_a_layers_own_directory_with_flags_goes(name: str, home: Path, flags: str) -> None:
    driver = taken_up(name, home)
    driver.create("a", "", "", {})
    flag(home / "a", flags)
    driver.remove("a")
    assert not driver.exists("a")
    store_of(driver).settle()
    assert os.listdir(home / ".trash") == []


@pytest.mark.parametrize("name", ["btrfs"], indirect=True)
@pytest.mark.parametrize("place", ["", "above", "above/inner", "above/inner/below"])
def test_flags_around_a_subvolume_that_a_container_made(name: str, home: Path, place: str) -> None:
    driver = taken_up(name, home)
    driver.create("a", "", "", {})
    root = home / "a/root"
    (root / "above").mkdir()
    at = os.open(root / "above", os.O_RDONLY)
    calls.create_subvolume(at, b"inner")
    os.close(at)
    (root / "above/inner/below").mkdir()
    (root / "above/inner/below/file").write_text("file")
    flag(root / place, "i")
    driver.create("b", "a", "", {})
    assert (home / "b/root/above/inner/below/file").read_text() == "file"
    for id in "ba":
        driver.remove(id)
        store_of(driver).settle()
        assert os.listdir(home / ".trash") == []


@pytest.mark.parametrize("name", ["btrfs"], indirect=True)
def test_a_child_can_be_written_to_where_its_parent_cannot(name: str, home: Path) -> None:
    driver = taken_up(name, home)
    driver.create("a", "", "", {})
    flag(home / "a/root", "i")
    driver.create("b", "a", "", {})
    (home / "b/root/new").touch()
    driver.remove("b")
    driver.remove("a")
