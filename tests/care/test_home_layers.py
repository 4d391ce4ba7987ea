"""All that can be read of a home's layers is told; what cannot be read is told, too."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from graphdriver.care.home_layers import HomeLayers, read_home_layers
from graphdriver.care.layer_tree import LayerNode
from graphdriver.care.owners import Owner, OwnerKind
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.serving.served_home import ServedHome
from tests.support.docker_root import DRIVER, DockerRoot

A, B = (f"sha256:{letter * 64}" for letter in "ab")


@pytest.fixture
def root(tmp_path: Path) -> DockerRoot:
    """A daemon's directory with a home of two layers, which nobody has records of."""
    root = DockerRoot(tmp_path)
    made(root.home, base="", top="base")
    return root


def made(home: Path, /, **parents: str) -> None:
    """Make a home of the driver vfs, with layers."""
    served = ServedHome(VfsDriver(), "docker")
    served.claim(str(home))
    served.init_driver()
    for id, parent in parents.items():
        served.driver.create(id, parent, "", {})
    served.close()


def nodes(layers: HomeLayers) -> Mapping[str, LayerNode]:
    return layers.tree.layers


def test_the_drivers_files_tell_layers_and_parents(root: DockerRoot) -> None:
    found = read_home_layers(str(root.home))
    assert {id: node.parent for id, node in nodes(found).items()} == {"base": "", "top": "base"}
    assert nodes(found)["top"].path == str(root.home / "top/root")
    assert found.identity
    assert (found.identity.engine, found.identity.driver) == ("docker", "vfs")
    assert found.notes == ()


def test_the_engines_records_tell_owners_and_sizes(root: DockerRoot) -> None:
    root.layer("base", [A], 100)
    root.layer("top", [A, B], 20)
    digest = root.image_of([A, B], "debian:12")
    found = nodes(read_home_layers(str(root.home)))
    assert found["top"].owners == (Owner(OwnerKind.IMAGE, digest, "debian:12"),)
    assert (found["top"].own_size, found["top"].shared_size) == (20, 100)


def test_a_layer_that_an_image_needs_and_that_is_gone_is_damaged(root: DockerRoot) -> None:
    root.layer("base", [A])
    root.layer("gone", [A, B])
    root.image_of([A, B], "debian:12")
    found = read_home_layers(str(root.home))
    assert [node.id for node in found.damaged] == ["gone"]
    assert nodes(found)["gone"].owners


def test_a_record_that_nothing_needs_is_no_damage(root: DockerRoot) -> None:
    root.layer("gone", [A])
    assert "gone" not in nodes(read_home_layers(str(root.home)))


def test_what_the_engine_removes_meanwhile_is_no_damage(
    root: DockerRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = root.layer("base", [A])
    root.image_of([A], "debian:12")
    own = VfsDriver.stored_layers

    def removed(home: str) -> object:
        found = [one for one in own(home) if one.id != "base"]
        for file in record.iterdir():
            file.unlink()
        record.rmdir()
        return found

    monkeypatch.setattr(VfsDriver, "stored_layers", removed)
    assert set(nodes(read_home_layers(str(root.home)))) == {"top"}


def test_the_plugins_answer_tells_gets_and_times(root: DockerRoot) -> None:
    told = LayerNode("top", None, own_size=5, inodes=2, created=7.0, gets=3, got_by="dockerd (1)")
    found = nodes(read_home_layers(str(root.home), [told, LayerNode("removed", "")]))
    assert set(found) == {"base", "top"}, "the driver decides which layers there are"
    top = found["top"]
    assert (top.parent, top.own_size, top.inodes) == ("base", 5, 2)
    assert (top.created, top.gets, top.got_by) == (7.0, 3, "dockerd (1)")


def test_a_size_and_a_number_of_inodes_come_from_the_same_count(root: DockerRoot) -> None:
    root.layer("base", [A], 100)
    root.image_of([A])
    found = nodes(read_home_layers(str(root.home), [LayerNode("base", "", inodes=3)]))
    assert (found["base"].own_size, found["base"].inodes) == (100, None)


def test_unfinished_layers_are_marked(root: DockerRoot) -> None:
    (root.home / ".graphdriver/applying/top").touch()
    found = nodes(read_home_layers(str(root.home)))
    assert (found["base"].unfinished, found["top"].unfinished) == (False, True)


def test_a_layer_without_content_is_damaged(root: DockerRoot) -> None:
    os.rmdir(root.home / "base/root")
    (damaged,) = read_home_layers(str(root.home)).damaged
    assert damaged.id == "base"


def test_a_directory_that_is_no_home_is_told(tmp_path: Path) -> None:
    found = read_home_layers(str(tmp_path))
    assert not nodes(found)
    assert "no record" in found.notes[0]


def test_a_damaged_record_of_the_home_is_told(root: DockerRoot) -> None:
    (root.home / ".graphdriver/home.json").write_text("{")
    found = read_home_layers(str(root.home), [LayerNode("top", "base")])
    assert "damaged" in found.lost[0]
    assert found.is_damaged
    assert set(nodes(found)) == {"top"}, "what the plugin told is shown all the same"


@pytest.mark.parametrize("driver", ["not-installed", "os:system", "graphdriver.driver:ProtoDriver"])
def test_a_driver_that_is_not_installed_leaves_the_records(root: DockerRoot, driver: str) -> None:
    file = root.home / ".graphdriver/home.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"driver": driver}))
    root.layer("base", [A])
    root.image_of([A], "debian:12")
    found = read_home_layers(str(root.home))
    assert driver in found.notes[0]
    assert set(nodes(found)) == {"base"}
    assert not found.damaged


def test_a_driver_that_fails_leaves_the_records(
    root: DockerRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(home: str) -> object:
        raise ValueError("no\x1b[2J")

    monkeypatch.setattr(VfsDriver, "stored_layers", fails)
    root.layer("base", [A])
    root.image_of([A], "debian:12")
    found = read_home_layers(str(root.home))
    assert "ValueError" in found.notes[0]
    assert set(nodes(found)) == {"base"}


def test_records_that_cannot_be_read_leave_owners_unknown(root: DockerRoot) -> None:
    root.layer("base", [A])
    (root.image / "repositories.json").write_text("{")
    found = read_home_layers(str(root.home))
    assert found.notes
    assert nodes(found)["top"].owners is None, "an unread record may name it"


def test_a_home_without_a_daemon_beside_it_has_no_owners(tmp_path: Path) -> None:
    made(tmp_path / DRIVER, base="")
    assert nodes(read_home_layers(str(tmp_path / DRIVER)))["base"].owners is None


def test_the_journal_tells_times_and_sizes_where_no_plugin_does(root: DockerRoot) -> None:
    lines = [
        {"layer": "top", "parent": "base", "created": 7.5},
        {"layer": "top", "applied": 8.5, "size": 30, "inodes": 4},
        {"layer": "never-stored", "created": 9.5},
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (root.home / ".graphdriver/layers").write_text(f'{text}{{"layer": "torn')
    found = nodes(read_home_layers(str(root.home)))
    assert set(found) == {"base", "top"}
    top = found["top"]
    assert (top.created, top.applied, top.own_size, top.inodes) == (7.5, 8.5, 30, 4)
    assert top.gets is None
    told = nodes(read_home_layers(str(root.home), [LayerNode("top", "base", gets=2)]))["top"]
    assert (told.gets, told.created) == (2, None), "a plugin that runs knows best"


def test_a_damaged_journal_is_told(root: DockerRoot) -> None:
    journal = root.home / ".graphdriver/layers"
    journal.unlink()
    journal.mkdir()
    found = read_home_layers(str(root.home))
    assert "journal" in found.notes[0]
    assert set(nodes(found)) == {"base", "top"}
