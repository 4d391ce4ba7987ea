from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from graphdriver.driver import IDMap
from graphdriver.layer import pack as pack_module
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.walk import walk
from graphdriver.layer.unpack import Unpacked, unpack
from graphdriver.layer.write.form import Form
from graphdriver.layer.write.plain_tree import PlainTree
from graphdriver.linux.regular_file import open_nodev
from tests.support.canary import Canary
from tests.support.filesystems import loop


@dataclass
class Layer:
    """A layer's root on disk, and the way to unpack tars into it."""

    root: Path

    def unpack(
        self,
        data: bytes,
        *,
        form: Callable[[int], Form] = PlainTree,
        uid_maps: tuple[IDMap, ...] = (),
        gid_maps: tuple[IDMap, ...] = (),
    ) -> Unpacked:
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return unpack(io.BytesIO(data), fd, uid_maps=uid_maps, gid_maps=gid_maps, form=form)
        finally:
            os.close(fd)

    def names(self) -> list[bytes]:
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted(node.path for node in walk(fd))
        finally:
            os.close(fd)

    def path(self, name: bytes | str) -> bytes:
        return os.path.join(os.fsencode(self.root), os.fsencode(name))

    def read(self, name: bytes | str) -> bytes:
        with open(self.path(name), "rb") as file:
            return file.read()

    def stat(self, name: bytes | str) -> os.stat_result:
        return os.lstat(self.path(name))


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    canary = Canary.hatch(tmp_path / "canary")
    with canary.unharmed():
        yield canary


@pytest.fixture
def layer(tmp_path: Path, canary: Canary) -> Iterator[Layer]:
    """An empty layer beside a canary; every test that uses it also asserts that the canary lives."""
    root = tmp_path / "layer"
    root.mkdir()
    yield Layer(root)
    remove(root)


@pytest.fixture(scope="session", params=["tmpfs", "ext4", "xfs", "btrfs"])
def filesystem(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """One filesystem after another."""
    if request.param == "tmpfs":
        yield Path("/dev/shm")
        return
    with loop(request.param, tmp_path_factory.mktemp(request.param)) as place:
        yield place


@pytest.fixture
def place(filesystem: Path) -> Iterator[Path]:
    """A new folder on one filesystem after another."""
    root = Path(tempfile.mkdtemp(dir=filesystem))
    yield root
    remove(root)


def remove(tree: Path) -> None:
    """Remove a tree that may be deeper than pytest's own cleaning can go."""
    fd = os.open(tree.parent, os.O_RDONLY)
    remove_tree(fd, os.fsencode(tree.name))
    os.close(fd)


@pytest.fixture(params=["in a copy of the mount", "held first"])
def way_to_open(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """Each way to open the files that are packed: that of Linux 5.12, and the one of before."""
    way: str = request.param
    if way == "held first":
        monkeypatch.setattr(pack_module, "open_nodev", lambda folder_fd: None)
    else:
        fd = os.open(tmp_path, os.O_PATH)
        copied = open_nodev(fd)
        assert copied is not None
        os.close(copied)
        os.close(fd)
    return way
