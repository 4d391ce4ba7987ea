"""What BuildKit's databases tell of the layers in a data root."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphdriver.care.bolt import Tree
from graphdriver.care.docker_records import read_docker
from graphdriver.care.owners import EngineRecords
from tests.support.bolt_pages import write_bolt
from tests.support.docker_root import DRIVER, DockerRoot
from tests.support.images import chain_id

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
LOW = "1" * 64
STEP, STEP_LAYER, NEXT, NEXT_LAYER, SOURCE = (f"{name:0>25}" for name in "abcde")


def described(text: str, **more: str) -> Tree:
    return {
        f"cache.{name}".encode(): json.dumps({"value": value}).encode()
        for name, value in {"description": text, **more}.items()
    }


def lease(*keys: str) -> Tree:
    return {b"snapshots": {b"default": {key.encode(): b"" for key in keys}}}


@pytest.fixture
def databases() -> dict[str, Tree]:
    """Two steps on an image, and a local source; the upper step is not a layer of images yet."""
    return {
        "snapshots.db": {
            STEP.encode(): {
                b"committed": STEP_LAYER.encode(),
                b"chainid": chain_id([A, B]).encode(),
            },
            STEP_LAYER.encode(): {b"iscommitted": b"", b"parent": A.encode(), b"size": b"2"},
            NEXT.encode(): {b"committed": NEXT_LAYER.encode()},
            NEXT_LAYER.encode(): {b"iscommitted": b"", b"parent": STEP.encode()},
            SOURCE.encode(): {b"parent": b""},
            A.encode(): {},
        },
        "metadata_v2.db": {
            b"_main": {
                STEP.encode(): described("RUN a"),
                NEXT.encode(): described("RUN b"),
                SOURCE.encode(): described("local source"),
            },
            b"_index": {b"some": b""},
        },
        "containerdmeta.db": {b"v1": {b"buildkit": {b"leases": {b"one": lease(STEP)}}}},
    }


@pytest.fixture
def root(tmp_path: Path) -> DockerRoot:
    made = DockerRoot(tmp_path)
    made.layer(LOW, [A])
    made.layer(STEP_LAYER, [A, B])
    made.image_of([A], "small:latest")
    (tmp_path / "buildkit").mkdir()
    (tmp_path / "buildkit/cache.db").write_bytes(b"not read")
    return made


def read(root: DockerRoot, databases: dict[str, Tree]) -> EngineRecords:
    for name, tree in databases.items():
        write_bolt(root.path / "buildkit" / name, tree)
    return read_docker(str(root.path), DRIVER)


def test_a_layer_belongs_to_what_is_cached(root: DockerRoot, databases: dict[str, Tree]) -> None:
    found = read(root, databases)
    assert not found.unread
    assert {id: [one.name for one in layer.owners] for id, layer in found.layers.items()} == {
        LOW: ["small:latest", "RUN b"],
        STEP_LAYER: ["RUN a", "RUN b"],
        NEXT_LAYER: ["RUN b"],
        SOURCE: ["local source"],
    }
    assert {id: layer.parent for id, layer in found.layers.items()} == {
        LOW: "",
        STEP_LAYER: LOW,
        NEXT_LAYER: STEP_LAYER,
        SOURCE: "",
    }
    assert found.layers[STEP_LAYER].diff_id == B


def test_what_the_cache_has_forgotten_is_known_without_an_owner(
    root: DockerRoot, databases: dict[str, Tree]
) -> None:
    """``docker builder prune`` leaves snapshots that only lead to a layer of images."""
    databases["metadata_v2.db"] = {b"_main": {}}
    found = read(root, databases)
    assert {id: len(layer.owners) for id, layer in found.layers.items()} == {
        LOW: 1,
        STEP_LAYER: 0,
        NEXT_LAYER: 0,
        SOURCE: 0,
    }


def test_every_key_may_name_a_layer(root: DockerRoot, databases: dict[str, Tree]) -> None:
    """The daemon asks the driver for a layer of the key that it does not find in ``snapshots.db``."""
    databases["snapshots.db"] = {}
    databases["metadata_v2.db"] = {b"_main": {b"x": described("", snapshot="y", equalMutable="z")}}
    databases["containerdmeta.db"] = {b"v1": {b"any": {b"leases": {b"one": lease("u", "v")}}}}
    assert read(root, databases).named >= {"x", "y", "z", "u", "v"}


@pytest.mark.parametrize("name", ["snapshots.db", "metadata_v2.db", "containerdmeta.db"])
@pytest.mark.parametrize("data", [None, b"", b"no database" * 1000])
def test_a_database_that_cannot_be_read_is_told(
    root: DockerRoot, databases: dict[str, Tree], name: str, data: bytes | None
) -> None:
    read(root, databases)
    file = root.path / "buildkit" / name
    file.unlink()
    if data is not None:
        file.write_bytes(data)
    assert any(str(file) in told for told in read_docker(str(root.path), DRIVER).unread)


@pytest.mark.parametrize("name", ["metadata_v3.db", "snapshots_v2.db", "metadata.db"])
def test_a_database_of_an_unknown_version_is_told(
    root: DockerRoot, databases: dict[str, Tree], name: str
) -> None:
    read(root, databases)
    files = root.path / "buildkit"
    (files / "metadata_v2.db").rename(files / name)
    assert any(str(files / name) in told for told in read_docker(str(root.path), DRIVER).unread)


def test_a_database_that_a_newer_daemon_has_taken_over_is_not_read(
    root: DockerRoot, databases: dict[str, Tree]
) -> None:
    (root.path / "buildkit/metadata.db").write_bytes(b"old")
    assert not read(root, databases).unread


UNKNOWN: dict[str, tuple[str, Tree]] = {
    "a value among snapshots": ("snapshots.db", {b"key": b"value"}),
    "an unknown member": ("snapshots.db", {b"key": {b"parent": b"", b"also": b""}}),
    "a bucket as a parent": ("snapshots.db", {b"key": {b"parent": {}}}),
    "a layer that is a path": ("snapshots.db", {b"key": {b"committed": b"../etc"}}),
    "a key that is a path": ("snapshots.db", {b"../etc": {b"parent": b""}}),
    "a value for the described": ("metadata_v2.db", {b"_main": b""}),
    "a description that is no JSON": (
        "metadata_v2.db",
        {b"_main": {b"key": {b"cache.description": b"["}}},
    ),
    "deep JSON": ("metadata_v2.db", {b"_main": {b"key": {b"cache.snapshot": b"[" * 100_000}}}),
    "leases of another version": ("containerdmeta.db", {b"v2": {}}),
    "leases that are a value": ("containerdmeta.db", {b"v1": {b"buildkit": {b"leases": b""}}}),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_a_record_of_an_unknown_kind_is_told(
    root: DockerRoot, databases: dict[str, Tree], what: str
) -> None:
    name, tree = UNKNOWN[what]
    (told,) = read(root, {**databases, name: tree}).unread
    assert name in told


def test_steps_in_a_circle_end(root: DockerRoot, databases: dict[str, Tree]) -> None:
    databases["snapshots.db"] = {
        STEP.encode(): {b"parent": NEXT.encode()},
        NEXT.encode(): {b"parent": STEP.encode()},
    }
    assert set(read(root, databases).layers) == {LOW, STEP_LAYER, STEP, NEXT}
