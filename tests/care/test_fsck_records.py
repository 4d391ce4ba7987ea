"""A home and the engine's records of it, apart: what fsck finds, and what is hit by lost content."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest

from graphdriver.care.bolt import Tree
from graphdriver.care.findings import Severity
from graphdriver.care.fsck import CheckedHome, check, repair
from graphdriver.care.owners import Owner, OwnerKind
from graphdriver.care.ways_out import ways_out
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.drivers.loading import make
from tests.care.fsck_homes import serving
from tests.support.bolt_pages import write_bolt

pytestmark = pytest.mark.root


def codes(home: CheckedHome) -> list[tuple[str, str]]:
    return [(one.damage.code, one.damage.layer) for one in home.found if not one.is_repaired]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A snapshotter's root with an image of two layers, 1 and 2, and a container on it, 3."""
    path = tmp_path / "root"
    with contextlib.closing(Snapshots(make("vfs"), str(path))) as snapshots:
        snapshots.prepare("default/1/extract-a", "", {})
        snapshots.commit("default/2/sha256:a", "default/1/extract-a", {})
        snapshots.prepare("default/3/extract-b", "default/2/sha256:a", {})
        snapshots.commit("default/4/sha256:b", "default/3/extract-b", {})
        snapshots.prepare("default/5/web", "default/4/sha256:b", {})
    return path


def test_a_sound_root_is_sound_also_while_it_is_served(root: Path) -> None:
    assert check(str(root)).found == []
    with contextlib.closing(Snapshots(make("vfs"), str(root))):
        assert check(str(root)).found == []


def test_a_snapshot_without_a_layer_is_told_with_all_that_stand_on_it(root: Path) -> None:
    shutil.rmtree(root / "1")
    found = check(str(root))
    assert (codes(found), found.worst) == ([("lost-layer", "1")], Severity.DAMAGE)
    assert [one.name for one in found.found[0].owners] == ["default/sha256:a", "default/web"]
    assert any("ctr -n default images" in way for way in found.ways_out)
    assert list(repair(found)) == []


def test_a_layer_that_lost_everything_is_lost_if_a_snapshot_needs_it(root: Path) -> None:
    for one in (root / "2").iterdir():
        shutil.rmtree(one) if one.is_dir() else one.unlink()
    found = check(str(root))
    assert (codes(found), found.worst) == ([("lost-layer", "2")], Severity.DAMAGE)


def test_a_layer_without_a_snapshot_is_removed(root: Path) -> None:
    with serving("vfs", root, "containerd") as served:
        served.driver.create("50", "2", "", {})
    assert codes(check(str(root))) == [("orphan", "50")]
    found = check(str(root))
    assert [one.is_repaired for one in repair(found)] == [True]
    assert not (root / "50").exists()
    assert check(str(root)).found == []


def test_layers_are_not_removed_by_a_database_that_knows_none(root: Path) -> None:
    """It may be another root's, or one that was made anew."""
    with contextlib.closing(sqlite3.connect(root / ".graphdriver/snapshots.db")) as database:
        database.execute("DELETE FROM snapshots")
        database.commit()
    found = check(str(root))
    assert codes(found) == [("orphan", "1"), ("orphan", "2"), ("orphan", "3")]
    assert list(repair(found)) == []
    assert (root / "3").exists()


def test_a_layer_that_is_newer_than_the_database_is_not_removed(root: Path) -> None:
    with serving("vfs", root, "containerd") as served:
        for id in ("50", "900"):
            served.driver.create(id, "2", "", {})
    found = check(str(root))
    assert codes(found) == [("old-database", "50"), ("old-database", "900")]
    assert list(repair(found)) == []


@pytest.mark.parametrize("damage", ["garbage", "missing", "rows"])
def test_a_damaged_database_is_told_and_nothing_is_removed(root: Path, damage: str) -> None:
    path = root / ".graphdriver/snapshots.db"
    if damage == "garbage":
        path.write_bytes(b"garbage" * 1000)
    elif damage == "missing":
        path.unlink()
    else:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("UPDATE snapshots SET labels = 'no JSON'")
            database.commit()
    found = check(str(root))
    assert (codes(found), found.worst) == ([("damaged-database", "")], Severity.DAMAGE)
    assert str(path) in found.found[0].damage.text
    assert "restore its database from a copy" in found.ways_out[0]
    assert list(repair(found)) == []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A Docker daemon's data root with a container on an image of one layer."""
    path = tmp_path / "py-vfs"
    with serving("vfs", path) as served:
        for id, parent in (("lower", ""), ("web-init", "lower"), ("web", "web-init")):
            served.driver.create(id, parent, "", {})
    diff_id = "sha256:" + "a" * 64
    database = tmp_path / "image/py-vfs/layerdb"
    records = {
        f"sha256/{'a' * 64}/cache-id": "lower",
        f"sha256/{'a' * 64}/diff": diff_id,
        f"sha256/{'a' * 64}/size": "7",
        f"mounts/{'c' * 64}/mount-id": "web",
        f"mounts/{'c' * 64}/init-id": "web-init",
        f"mounts/{'c' * 64}/parent": diff_id,
    }
    for name, text in records.items():
        (database / name).parent.mkdir(parents=True, exist_ok=True)
        (database / name).write_text(text)
    config = tmp_path / "containers" / ("c" * 64) / "config.v2.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"Name": "/web", "Driver": "py-vfs"}))
    return path


def test_lost_content_names_the_containers_that_need_it(home: Path) -> None:
    shutil.rmtree(home / "lower/root")
    found = check(str(home))
    assert codes(found) == [("lost-tree", "lower")]
    assert [(one.kind, one.name) for one in found.found[0].owners] == [(OwnerKind.CONTAINER, "web")]
    assert "docker rm -f web" in found.ways_out


def test_a_layer_that_the_daemon_needs_is_never_removed_for_its_mark(home: Path) -> None:
    (home / ".graphdriver/applying/lower").touch()
    found = check(str(home))
    assert (codes(found), found.worst) == ([("lost-layer", "lower")], Severity.DAMAGE)
    assert list(repair(found)) == []


def test_a_layer_that_the_daemon_needs_and_that_is_gone_is_told(home: Path) -> None:
    shutil.rmtree(home / "web-init")
    found = check(str(home))
    assert codes(found) == [("lost-layer", "web-init")]
    assert "web-init does not exist" in found.found[0].damage.text


def test_a_cached_step_of_another_storage_driver_is_not_said_to_be_lost(home: Path) -> None:
    databases = home.parent / "buildkit"
    databases.mkdir()
    key = b"made-elsewhere".hex().encode()
    trees: dict[str, Tree] = {
        "snapshots.db": {key: {b"parent": b""}},
        "metadata_v2.db": {b"_main": {key: {b"cache.description": b'{"value": "RUN"}'}}},
        "containerdmeta.db": {},
    }
    for name, tree in trees.items():
        write_bolt(databases / name, tree)
    found = check(str(home))
    assert codes(found) == [("lost-layer", key.decode())]
    assert "made on another storage driver" in found.found[0].damage.text
    assert found.ways_out == ["docker builder prune --all --force"]


@pytest.mark.parametrize("name", ["overlay2", "erofs"])
def test_a_parent_that_only_the_engine_knows_is_noted_again(name: str) -> None:
    """After a power cut the file of a container's layer may be empty, since it is not synced."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as directory:
        root = Path(directory, "root")
        with contextlib.closing(Snapshots(make(name), str(root))) as snapshots:
            snapshots.prepare("a", "", {})
            snapshots.commit("image", "a", {})
            snapshots.prepare("container", "image", {})
            before = (root / "2/lower").read_text()
            (root / "2/lower").write_text("")
            snapshots.served.driver.cleanup()
        found = check(str(root))
        assert (codes(found), found.worst) == ([("unknown-parent", "2")], Severity.WARNING)
        assert "note its parent 1 again" in found.found[0].damage.repair
        assert [one.is_repaired for one in repair(found)] == [True]
        assert (root / "2/lower").read_text() == before
        assert check(str(root)).found == []


def test_the_way_out_removes_all_that_needs_a_layer_before_it_is_pulled() -> None:
    owners = [
        Owner(OwnerKind.IMAGE, "sha256:1", "debian:12, debian:latest"),
        Owner(OwnerKind.CONTAINER, "c1", "web"),
        Owner(OwnerKind.IMAGE, "sha256:2", "sha256:2"),
        Owner(OwnerKind.CONTAINER, "c1", "web"),
        Owner(OwnerKind.BUILD_CACHE, "x", "a step"),
    ]
    assert ways_out("docker", owners) == [
        "docker rm -f web",
        "docker rmi -f debian:12 debian:latest sha256:2",
        "docker builder prune --all --force",
        "docker pull debian:12",
        "docker pull debian:latest",
        "build or load again the images without a name",
    ]
