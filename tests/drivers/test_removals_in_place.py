"""Where there is no room for the rename into the trash, a layer is deleted where it is.

A btrfs that cannot reserve metadata refuses a rename, and takes a deletion. Wherever that is cut off,
the layer is there whole, or is no layer any more, and the next start goes on with its removal.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from pathlib import Path
from typing import Any

import pytest

from graphdriver.conformance.kit.tree import record
from graphdriver.drivers.loading import load
from graphdriver.store import Store
from tests.drivers.every import TREE, store_of
from tests.drivers.faults import KILL, Faults, KilledError
from tests.support.filesystems import loop, sync
from tests.support.full import fill
from tests.support.ground import require

pytestmark = pytest.mark.root


@pytest.fixture
def home(data_root: Path) -> Path:
    return data_root


@pytest.fixture
def no_renames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse what a btrfs without room for metadata refuses, wherever the home is."""
    real = os.rename

    def rename(source: Any, target: Any, **named: Any) -> None:
        if "/.trash/" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source)
        real(source, target, **named)

    monkeypatch.setattr(os, "rename", rename)


class Scene:
    """A home without room, with a layer to be removed."""

    def __init__(self, name: str, home: Path) -> None:
        self._name = name
        self.home = home
        self.start()
        for id, parent in (("a", ""), ("b", "a")):
            if not self.driver.exists(id):
                self.driver.create(id, parent, "", {})
        tree = self.home / "b" / TREE[name]
        for number in range(3):
            (tree / f"directory{number}").mkdir()
            (tree / f"directory{number}/file").write_text("content")
        self.tree = record(str(tree))

    def start(self) -> None:
        """Take up the home, as a new process does."""
        self.driver: Any = load(self._name)()
        self.driver.init(str(self.home), (), (), ())

    def expect_whole_or_absent(self) -> None:
        assert self.driver.exists("a")
        if self.driver.exists("b"):
            assert record(str(self.home / "b" / TREE[self._name])) == self.tree
        else:
            assert not (self.home / "b").exists()

    def expect_gone(self) -> None:
        store_of(self.driver).settle()
        assert not self.driver.exists("b")
        assert not (self.home / "b").exists()
        assert not os.listdir(self.home / ".trash")
        assert not os.listdir(self.home / ".staging")


@pytest.mark.usefixtures("no_renames")
@pytest.mark.parametrize("error", [KILL, errno.EIO], ids=["kill", "failure"])
def test_a_removal_in_place_that_is_cut_off_is_gone_on_with(
    name: str, error: int, home: Path
) -> None:
    faults = Faults()
    at = 0
    with faults.installed():
        while not at or faults.seen >= at:
            at += 1
            scene = Scene(name, home)
            with faults.armed(at, error), contextlib.suppress(KilledError, OSError):
                scene.driver.remove("b")
            if error == KILL:
                scene.start()
                scene.expect_whole_or_absent()
            scene.driver.remove("b")
            scene.expect_gone()
    assert at > 8
    scene.driver.cleanup()


@pytest.mark.usefixtures("no_renames")
def test_a_layer_can_be_made_again_after_a_removal_in_place_that_failed(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(name, home)

    def fail(self: Store, directory: int, name: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), name)

    store = store_of(scene.driver)
    with monkeypatch.context() as broken, pytest.raises(OSError, match="Input/output"):
        broken.setattr(store, "_delete", functools.partial(fail, store))
        scene.driver.remove("b")
    assert not scene.driver.exists("b")
    scene.driver.create("b", "a", "", {})
    assert os.listdir(home / "b" / TREE[name]) == []
    scene.driver.remove("b")
    scene.expect_gone()
    scene.driver.remove("a")
    scene.driver.cleanup()


def test_a_layer_goes_where_btrfs_refuses_to_rename(name: str, tmp_path: Path) -> None:
    require(os.geteuid() == 0, "mounts need root")
    with loop("btrfs-small-metadata", tmp_path, 128 << 20) as place:
        (place / "home").mkdir()
        (place / "other").mkdir()
        scene = Scene(name, place / "home")
        sync(place)
        fill(place)
        with pytest.raises(OSError, match="No space left"):
            os.rename(place / "other", place / "home/.trash/other")
        scene.driver.remove("b")
        scene.expect_gone()
        scene.driver.cleanup()
