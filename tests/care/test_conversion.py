"""Layers that are transferred from one driver to another."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings

from graphdriver.care.migration.conversion import Conversion, created_as
from graphdriver.care.migration.id_maps import IDMaps
from graphdriver.care.migration.plan import LayerKind, PlannedLayer, Side
from graphdriver.care.owners import KnownLayer, Owner, OwnerKind
from graphdriver.conformance.plugin import tars
from graphdriver.driver import IDMap, mounted
from graphdriver.drivers.docker_homes import docker_home
from graphdriver.errors import GraphDriverError, LayerDamagedError
from graphdriver.files.runtime_directory import RUNTIME
from graphdriver.layer.pack import pack
from tests.support.command import environment
from tests.support.long import times
from tests.support.overlays import mounted_overlay, opened
from tests.support.sides import OldSide, convert, driving, seen, shown, side
from tests.support.trees import TREES, Thing, make

pytestmark = pytest.mark.root

BASE = tars.tar(
    tars.directory(b"etc"),
    tars.file(b"etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
    tars.file(b"large", b"0123456789abcdef" * 100_000),
    tars.directory(b"gone"),
    tars.file(b"gone/file", b"x"),
    tars.hard_link(b"again", b"etc/passwd"),
)
TOP = tars.tar(
    tars.directory(b"etc"),
    tars.file(b"etc/new", b"new"),
    tars.whiteout(b".wh.gone"),
)


@contextlib.contextmanager
def in_memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as directory:
        yield Path(directory)


@pytest.fixture
def root() -> Iterator[Path]:
    with in_memory() as directory:
        yield directory


def write_in_container(tree: Path) -> None:
    (tree / "etc/passwd").write_text("root:x:0:0::/:/bin/bash\n")
    (tree / "etc/new").unlink()
    (tree / "log").mkdir(mode=0o1777)
    (tree / "log/today").write_bytes(b"y" * 10_000)
    tree.chmod(0o751)  # which no tar of a layer tells


def old_side(root: Path, name: str) -> OldSide:
    """Make a side with two layers of images, one of BuildKit, and a container."""
    old = OldSide(side(root / "old", name))
    with driving(old.side) as driver:
        old.image(driver, "base", "", BASE)
        old.image(driver, "top", "base", TOP)
        old.written(
            *(driver, "build", "top", LayerKind.BUILD),
            lambda at: (at / "built").write_bytes(b"z" * 5000),
        )
        old.written(
            *(driver, "c-init", "top", LayerKind.CONTAINER),
            lambda at: (at / ".dockerenv").touch(),
        )
        old.written(driver, "c", "c-init", LayerKind.CONTAINER, write_in_container)
    return old


# --- the same layers ------------------------------------------------------------------------------


def tar_of(place: Path, things: list[Thing]) -> bytes:
    place.mkdir()
    make(place, things)
    with opened(place) as (root,), contextlib.closing(pack(root, None)) as stream:
        return b"".join(iter(lambda: stream.read(1 << 20), b""))


@settings(max_examples=times(8, 500), deadline=None)
@given(base=TREES, middle=TREES, init=TREES, container=TREES)
def test_each_layer_shows_the_same_there_and_back(
    base: list[Thing], middle: list[Thing], init: list[Thing], container: list[Thing]
) -> None:
    with in_memory() as root:
        old = OldSide(side(root / "old", "overlay2"))
        with driving(old.side) as driver:
            old.image(driver, "base", "", tar_of(root / "1", base))
            old.image(driver, "middle", "base", tar_of(root / "2", middle))
            old.written(driver, "c-init", "middle", LayerKind.CONTAINER, lambda at: make(at, init))
            old.written(driver, "c", "c-init", LayerKind.CONTAINER, lambda at: make(at, container))
        before = shown(old.side, old.layers)
        at = old.side
        for name, place in (("erofs", "there"), ("overlay2", "back")):
            new = old.beside(root / place, name)
            convert(at, new, old.layers)
            assert shown(new, old.layers) == before, name
            at = new


@pytest.mark.parametrize("target", ["erofs", "fuse-overlayfs", "vfs"])
@pytest.mark.parametrize("source", ["overlay2", "erofs", "vfs"])
def test_any_driver_takes_the_layers_of_any_other(root: Path, source: str, target: str) -> None:
    old = old_side(root, source)
    before = shown(old.side, old.layers)
    new = old.beside(root / "new", target)
    assert convert(old.side, new, old.layers) == [one.id for one in old.layers]
    assert shown(new, old.layers) == before
    assert shown(old.side, old.layers) == before


def test_the_tar_of_an_image_is_the_same_to_the_byte(root: Path) -> None:
    old = old_side(root, "overlay2")
    new = old.beside(root / "new", "erofs")
    convert(old.side, new, old.layers)
    with driving(new) as driver:
        for id, parent, tar in (("base", "", BASE), ("top", "base", TOP)):
            with contextlib.closing(driver.diff(id, parent)) as stream:
                assert b"".join(iter(lambda: stream.read(1 << 20), b"")) == tar


def test_a_container_is_written_to_as_before(root: Path) -> None:
    """Its layer is no stored tar: a file in it is not copied up before it is written to."""
    old = old_side(root, "overlay2")
    new = old.beside(root / "new", "erofs")
    convert(old.side, new, old.layers)
    assert Path(new.home, "c/diff/log/today").stat().st_size == 10_000
    assert Path(new.home, "build/layer.erofs").exists()
    with driving(new) as driver, mounted(driver, "c") as path:
        with open(f"{path}/log/today", "a") as file:
            file.write("more")
        assert driver.diff_size("c", "c-init") == 10_004 + 24


def test_remapped_ids_stay_the_same_on_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = IDMaps((IDMap(0, 100_000, 65_536),), (IDMap(0, 200_000, 65_536),))
    monkeypatch.setattr("graphdriver.care.migration.conversion.maps_of", lambda root: maps)

    def write(tree: Path) -> None:
        (tree / "log").write_bytes(b"y" * 10_000)
        os.chown(tree / "log", 100_007, 200_008)
        (tree / "mtab").symlink_to("/proc/mounts")  # of the host's root, as Docker makes it

    old = OldSide(side(root / "old", "overlay2"))
    with driving(old.side, maps) as driver:
        old.image(driver, "base", "", BASE)
        old.written(driver, "c", "base", LayerKind.CONTAINER, write)
    before = shown(old.side, old.layers, maps)
    new = old.beside(root / "new", "erofs")
    convert(old.side, new, old.layers)
    found = shown(new, old.layers, maps)
    assert found == before
    assert found["c"][b"large"][0][1:3] == (100_000, 200_000)  # type: ignore[index]


def test_a_layer_without_a_record_is_left_behind(root: Path) -> None:
    old = old_side(root, "overlay2")
    layers = [
        dataclasses.replace(one, kind=LayerKind.UNRECORDED) if one.id == "build" else one
        for one in old.layers
    ]
    new = old.beside(root / "new", "vfs")
    assert "build" in convert(old.side, new, layers)
    assert shown(new, layers).keys() == {"base", "top", "c-init", "c"}


# --- Docker's own drivers -------------------------------------------------------------------------


def without_our_files(old: OldSide) -> Side:
    """Make a home of ours one of Docker's own overlay2."""
    for name in os.listdir(old.side.home):
        if name.startswith("."):
            shutil.rmtree(os.path.join(old.side.home, name), ignore_errors=True)
            Path(old.side.home, name).unlink(missing_ok=True)
    return dataclasses.replace(old.side, is_built_in=True)


def test_nothing_in_a_home_of_dockers_own_is_written(root: Path) -> None:
    old = old_side(root, "overlay2")
    docker = without_our_files(old)
    expected = seen(docker.home)
    new = old.beside(root / "new", "erofs")
    convert(docker, new, old.layers)
    assert seen(docker.home) == expected


def test_a_renamed_directory_that_our_mounts_do_not_show_is_transferred(root: Path) -> None:
    """The marks of ``redirect_dir`` and ``metacopy`` are followed, and are gone in the new home."""
    old = old_side(root, "overlay2")
    home = Path(old.side.home)
    lowers = [home / id / "diff" for id in ("c-init", "top", "base")]
    settings = (("redirect_dir", "on"), ("metacopy", "on"))
    with mounted_overlay(root, lowers, home / "c/diff", settings) as tree:
        (tree / "etc").rename(tree / "old-etc")
        (tree / "large").chmod(0o600)
    docker = without_our_files(old)
    with mounted(docker_home("overlay2", docker.home), "c") as path:
        before = seen(path)
    assert before[b"old-etc/passwd"]
    assert len(before[b"large"][2]) == 1_600_000  # type: ignore[index]
    new = old.beside(root / "new", "overlay2")
    convert(docker, new, old.layers)
    assert shown(new, old.layers)["c"] == before


def test_a_killed_reader_of_dockers_own_home_leaves_nothing_after_the_next(root: Path) -> None:
    docker = without_our_files(old_side(root, "overlay2"))

    def points() -> list[Path]:
        return [*Path(RUNTIME, "read").glob(f"*{root.name}*")]

    reader = f"""
import os
from graphdriver.drivers.docker_homes import docker_home
from graphdriver.linux.namespaces import unshare_mounts

unshare_mounts()
docker_home("overlay2", {docker.home!r}).get("c", "")
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", reader], env=environment())
    assert killed.returncode == -signal.SIGKILL
    assert len(points()) == 1
    with mounted(docker_home("overlay2", docker.home), "c") as tree:
        assert os.listdir(tree)
    assert points() == []


# --- interruptions --------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def test_what_is_done_is_not_done_again(root: Path) -> None:
    """Layers of images are kept; any other may have changed since, and is made again."""
    old = old_side(root, "overlay2")
    new = old.beside(root / "new", "erofs")

    def kill(layer: PlannedLayer) -> None:
        if layer.id == "c-init":
            raise Killed

    with pytest.raises(Killed):
        Conversion(old.side, new).transfer(old.side.home, new.home, old.layers, kill)
    image = Path(new.home, "top/layer.erofs").stat().st_ino
    with driving(old.side) as driver, mounted(driver, "build") as path:
        Path(path, "built").write_bytes(b"changed")
    convert(old.side, new, old.layers)
    assert Path(new.home, "top/layer.erofs").stat().st_ino == image
    assert shown(new, old.layers) == shown(old.side, old.layers)


def test_layers_that_are_gone_meanwhile_are_removed(root: Path) -> None:
    old = old_side(root, "overlay2")
    new = old.beside(root / "new", "erofs")

    def kill(layer: PlannedLayer) -> None:
        if layer.id == "c":
            raise Killed

    with pytest.raises(Killed):
        Conversion(old.side, new).transfer(old.side.home, new.home, old.layers, kill)
    convert(old.side, new, old.layers[:1])
    assert shown(new, old.layers).keys() == {"base"}


# --- damage ---------------------------------------------------------------------------------------


def test_a_damaged_layer_is_named(root: Path) -> None:
    old = old_side(root, "overlay2")
    Path(old.side.home, "base/diff/etc/passwd").write_bytes(b"toor:x:0:0::/:/bin/sh\n")
    new = old.beside(root / "new", "erofs")
    with pytest.raises(LayerDamagedError, match=r"layer base is damaged: the digest of its tar is"):
        convert(old.side, new, old.layers)
    Path(old.side.home, "base/diff/etc/passwd").unlink()
    with pytest.raises(LayerDamagedError, match=r"base is damaged: its file 'etc/passwd' was lost"):
        convert(old.side, new, old.layers)


def test_a_layer_whose_tar_is_not_recorded_is_refused_first(root: Path) -> None:
    old = old_side(root, "overlay2")
    for record in Path(old.side.records).rglob("tar-split.json.gz"):
        record.unlink()
    new = side(root / "new", "erofs")
    refused = [*Conversion(old.side, new).refused(old.layers)]
    assert [one.layer for one in refused] == ["base", "top"]
    assert "the record of its tar is missing" in refused[0].text


# --- the plan, and the records --------------------------------------------------------------------


def test_a_driver_that_copies_may_need_room_for_each_whole_layer(root: Path) -> None:
    layers = [
        PlannedLayer("a", "", LayerKind.IMAGE, "", known=KnownLayer("a", "", size=100)),
        PlannedLayer("b", "a", LayerKind.BUILD, "", size=10),
        PlannedLayer("c", "b", LayerKind.CONTAINER, ""),
        PlannedLayer("d", "b", LayerKind.UNRECORDED, "", size=1 << 40),
    ]
    written = {
        name: Conversion(side(root, "overlay2"), side(root, name)).estimate(layers).written
        for name in ("erofs", "vfs")
    }
    assert written == {"erofs": 110, "vfs": 100 + 110 + 110}


def test_a_container_keeps_its_own_options(tmp_path: Path) -> None:
    directory = tmp_path / "containers/1f0c"
    directory.mkdir(parents=True)
    (directory / "config.v2.json").write_text(json.dumps({"MountLabel": "s0:c1,c2"}))
    (directory / "hostconfig.json").write_text(json.dumps({"StorageOpt": {"size": "1G"}}))
    known = KnownLayer("a", "", (Owner(OwnerKind.CONTAINER, "1f0c", "web"),))
    layer = PlannedLayer("a", "", LayerKind.CONTAINER, "", known=known)
    found = created_as(str(tmp_path), layer)
    assert (found.mount_label, found.storage_opt) == ("s0:c1,c2", {"size": "1G"})
    (directory / "hostconfig.json").write_text(json.dumps({"StorageOpt": ["size"]}))
    with pytest.raises(GraphDriverError, match="has no right MountLabel or StorageOpt"):
        created_as(str(tmp_path), layer)
