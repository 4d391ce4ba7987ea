"""What a Docker daemon's records tell of its layers, and what they tell after a crash."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphdriver.care.docker_records import place_of, read_docker
from graphdriver.care.owners import EngineRecords, OwnerKind
from tests.support.docker_root import DRIVER, DockerRoot

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
LOW, HIGH, MINE = "1" * 64, "2" * 64, "3" * 64
CONTAINER = "c" * 64


@pytest.fixture
def root(tmp_path: Path) -> DockerRoot:
    """An image of two layers, and a container of it."""
    made = DockerRoot(tmp_path)
    made.layer(LOW, [A], size=10)
    made.layer(HIGH, [A, B], size=2)
    made.image_of([A, B], "small:latest", "small:1")
    made.container(CONTAINER, "mine", MINE, [A, B])
    return made


def read(root: DockerRoot) -> EngineRecords:
    return read_docker(str(root.path), DRIVER)


def owners(records: EngineRecords) -> dict[str, set[str]]:
    return {id: {one.name for one in layer.owners} for id, layer in records.layers.items()}


def test_a_layer_belongs_to_all_that_needs_it(root: DockerRoot) -> None:
    base = root.image_of([A])
    found = read(root)
    assert owners(found) == {
        LOW: {base, "small:1, small:latest", "mine"},
        HIGH: {"small:1, small:latest", "mine"},
        f"{MINE}-init": {"mine"},
        MINE: {"mine"},
    }
    assert [one.kind for one in found.layers[MINE].owners] == [OwnerKind.CONTAINER]
    assert {id: one.parent for id, one in found.layers.items()} == {
        LOW: "",
        HIGH: LOW,
        f"{MINE}-init": HIGH,
        MINE: f"{MINE}-init",
    }
    assert (found.layers[HIGH].diff_id, found.layers[HIGH].size) == (B, 2)
    assert not found.unread


def test_a_layer_without_an_image_is_known_all_the_same(root: DockerRoot) -> None:
    """A pull that broke off leaves one; the daemon takes it up at the next pull."""
    root.layer("4" * 64, [B])
    assert owners(read(root))["4" * 64] == set()
    assert not read(root).unread


def test_a_layer_that_is_being_removed_is_named_until_the_daemon_has_removed_it(
    root: DockerRoot,
) -> None:
    record = root.layer("4" * 64, [B])
    removing = record.rename(record.with_name(f"{record.name}-{'5' * 64}-removing"))
    assert read(root).named == {"4" * 64}
    for name in ("cache-id", "diff"):
        (removing / name).unlink()
    assert not read(root).named
    assert not read(root).unread


def test_the_rest_of_a_removed_container_names_nothing(root: DockerRoot) -> None:
    (root.path / "containers" / ("d" * 64)).mkdir()
    assert not read(root).unread


DAMAGES = {
    "an empty cache-id": ("image/*/layerdb/sha256/*/cache-id", b""),
    "a cache-id that is a path": ("image/*/layerdb/sha256/*/cache-id", b"../../etc"),
    "a cache-id of zeros": ("image/*/layerdb/sha256/*/cache-id", bytes(64)),
    "a diff that is no digest": ("image/*/layerdb/sha256/*/diff", b"sha256:12"),
    "a size that is no number": ("image/*/layerdb/sha256/*/size", b"many"),
    "an empty mount-id": ("image/*/layerdb/mounts/*/mount-id", b""),
    "an empty init-id": ("image/*/layerdb/mounts/*/init-id", b""),
    "a changed image": ("image/*/imagedb/content/sha256/*", b"{}"),
    "an image in another encoding": ("image/*/imagedb/content/sha256/*", b"\xff\xfe"),
    "names that are not JSON": ("image/*/repositories.json", b"{"),
    "deep JSON": ("image/*/repositories.json", b"[" * 100_000),
    "names that are a list": ("image/*/repositories.json", b"[]"),
    "an empty container": ("containers/*/config.v2.json", b""),
    "a container without a name": ("containers/*/config.v2.json", b"{}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_told_with_its_file(root: DockerRoot, damage: str) -> None:
    where, data = DAMAGES[damage]
    file = next(root.path.glob(where))
    file.write_bytes(data)
    assert any(str(file) in told for told in read(root).unread)


@pytest.mark.parametrize("place", ["sha256", "mounts"])
def test_a_parent_without_a_record_is_told(root: DockerRoot, place: str) -> None:
    missing = f"sha256:{'e' * 64}"
    next(root.image.glob(f"layerdb/{place}/*/parent")).write_text(missing)
    (told,) = read(root).unread
    assert missing in told


@pytest.mark.parametrize("name", ["cache-id", "diff", "size", "mount-id"])
def test_a_record_without_a_file_is_told(root: DockerRoot, name: str) -> None:
    file = next(root.image.glob(f"layerdb/*/*/{name}"))
    file.unlink()
    assert any(str(file) in told for told in read(root).unread)


@pytest.mark.parametrize("place", ["layerdb/sha512", "layerdb/sha256/odd"])
def test_a_record_of_an_unknown_kind_is_told(root: DockerRoot, place: str) -> None:
    (root.image / place).mkdir()
    assert read(root).unread == (f"{root.image / place} is unknown",)


def test_a_missing_layer_database_is_told(root: DockerRoot) -> None:
    """Every layer would seem to belong to nobody."""
    os.rename(root.image, root.image.with_name("elsewhere"))
    (told,) = read(root).unread
    assert str(root.image / "layerdb") in told


def test_an_image_without_records_of_its_layers_is_told(root: DockerRoot) -> None:
    digest = root.image_of([B])
    (told,) = read(root).unread
    assert digest in told


def test_parents_in_a_circle_end(root: DockerRoot) -> None:
    records = sorted((root.image / "layerdb/sha256").iterdir())
    for one, other in zip(records, reversed(records), strict=True):
        (one / "parent").write_text(f"sha256:{other.name}")
    assert set(read(root).layers) == {LOW, HIGH, MINE, f"{MINE}-init"}


def test_the_data_root_of_a_home_is_above_it() -> None:
    assert place_of("/var/lib/docker/py-vfs") == ("/var/lib/docker", "py-vfs")
    assert place_of("/d/1000.1000/py-vfs") == ("/d/1000.1000", "py-vfs")
    managed = f"/d/plugins/{'a' * 64}/propagated-mount/example/vfs:1"
    assert place_of(managed) == ("/d", "example/vfs:1")
