from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import NaiveDiffDriver
from graphdriver.driver import mounted
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import LayerDamagedError, UnsupportedError
from tests.drivers.layers import layer


@pytest.fixture
def vfs(tmp_path: Path) -> Iterator[VfsDriver]:
    driver = VfsDriver()
    driver.init(str(tmp_path), [], [], [])
    yield driver
    driver._store.settle()


def test_a_size_is_refused(vfs: VfsDriver) -> None:
    with pytest.raises(UnsupportedError, match="size"):
        vfs.create("a", "", "", {"size": "10G"})
    with pytest.raises(UnsupportedError, match="size"):
        vfs.create_read_write("a", "", "", {"size": "10G"})
    assert not vfs.exists("a")


def test_unknown_options_are_refused_by_name(vfs: VfsDriver, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="'colour'"):
        vfs.create("a", "", "", {"colour": "red"})
    with pytest.raises(UnsupportedError, match="'colour'"):
        VfsDriver().init(str(tmp_path), ["colour=red"], [], [])
    with pytest.raises(UnsupportedError, match="size"):
        VfsDriver().init(str(tmp_path), ["size=10G"], [], [])


def test_layers_are_found_again_by_the_next_process(vfs: VfsDriver, tmp_path: Path) -> None:
    driver = NaiveDiffDriver(vfs)
    layer(driver, "a", "", lambda root: (root / "file").write_text("kept"))
    again = VfsDriver()
    again.init(str(tmp_path), [], [], [])
    with mounted(again, "a") as root:
        assert Path(root, "file").read_text() == "kept"


def test_status_tells_how_layers_are_copied(place: Path) -> None:
    vfs = VfsDriver()
    vfs.init(str(place), [], [], [])
    ask = ["stat", "--file-system", "--format=%T", str(place)]
    kind = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    shares = kind in ("xfs", "btrfs")
    assert list(vfs.status()) == [("Copies", "reflink" if shares else "full")]
    assert VfsDriver.probe(str(place)).rank == (20 if shares else 10)


def test_a_layer_is_untouched_since_it_was_a_copy_of_its_own_parent(vfs: VfsDriver) -> None:
    layer(NaiveDiffDriver(vfs), "a", "", lambda root: (root / "file").touch())
    vfs.create("b", "a", "", {})
    vfs.create("c", "b", "", {})
    stamp = vfs.untouched_since("b", "a")
    assert stamp is not None
    with mounted(vfs, "b") as root:
        assert os.stat(os.path.join(root, "file")).st_ctime_ns <= stamp
        os.chmod(os.path.join(root, "file"), 0o600)
        assert os.stat(os.path.join(root, "file")).st_ctime_ns >= stamp
    assert vfs.untouched_since("b", "a") == stamp
    assert vfs.untouched_since("c", "a") is None
    assert vfs.untouched_since("a", "") is not None


def test_a_copy_that_fails_leaves_no_layer(vfs: VfsDriver) -> None:
    vfs.create("a", "", "", {})
    with mounted(vfs, "a") as root:
        os.rmdir(root)
    with pytest.raises(LayerDamagedError, match="layer a is damaged: its directory root was lost"):
        vfs.create("b", "a", "", {})
    assert not vfs.exists("b")
    os.mkdir(root)
    vfs.create("b", "a", "", {})


def test_sockets_are_left_out_of_a_copy(vfs: VfsDriver) -> None:
    vfs.create("a", "", "", {})
    with mounted(vfs, "a") as root:
        os.mknod(os.path.join(root, "socket"), 0o140600)
        Path(root, "file").touch()
    vfs.create("b", "a", "", {})
    with mounted(vfs, "b") as root:
        assert os.listdir(root) == ["file"]
