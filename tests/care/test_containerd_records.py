"""What a snapshotter's database tells of its layers, beside a snapshotter that writes to it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from graphdriver.care.containerd_records import DATABASE, read_containerd
from tests.support.snapshotter import Snapshotter

pytestmark = pytest.mark.root


@pytest.fixture
def snapshotter(tmp_path: Path) -> Snapshotter:
    return Snapshotter(tmp_path, "vfs")


def fill(snapshotter: Snapshotter) -> None:
    """Make an image of two layers, a container of it, and a view of it."""
    calls = snapshotter.calls
    calls.prepare("default/1/low")
    calls.commit("default/2/sha256:low", "default/1/low")
    image = {"containerd.io/snapshot/cri.image-ref": "debian:12"}
    calls.prepare("default/3/high", "default/2/sha256:low", **image)
    calls.commit("default/4/sha256:high", "default/3/high", **image)
    calls.prepare("default/5/container", "default/4/sha256:high")
    calls.view("default/6/view", "default/4/sha256:high")


def test_layers_beside_a_snapshotter_that_runs(snapshotter: Snapshotter) -> None:
    with snapshotter:
        fill(snapshotter)
        found = read_containerd(str(snapshotter.root))
        assert not found.unread
        assert sorted(found.layers) == snapshotter.layers()
    low, high, container = found.layers.values()
    assert [low.parent, high.parent, container.parent] == ["", low.id, high.id]
    above = ["default/container", "default/view"]
    assert [one.name for one in low.owners] == ["default/sha256:low", *above]
    assert [one.name for one in high.owners] == ["default/sha256:high (debian:12)", *above]
    assert [one.id for one in container.owners] == ["default/5/container"]


def test_a_database_is_read_whole_at_any_time(snapshotter: Snapshotter) -> None:
    """Each read sees all snapshots whose calls were answered, also while the log is begun anew."""
    with snapshotter:
        for number in range(150):
            snapshotter.calls.prepare(f"key {number}", label="x" * 4096)
            if number % 10 == 9:
                found = read_containerd(str(snapshotter.root))
                assert len(found.layers) == number + 1, found.unread


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("PRAGMA user_version=2", "version 2"),
        ("UPDATE snapshots SET labels = '[]'", "damaged"),
        ("UPDATE snapshots SET labels = ''", "Expecting value"),
        ("DROP TABLE doomed", "doomed"),
    ],
)
def test_a_database_that_is_not_understood_is_told(
    snapshotter: Snapshotter, statement: str, told: str
) -> None:
    with snapshotter:
        fill(snapshotter)
    database = snapshotter.root / DATABASE
    with sqlite3.connect(database) as connection:
        connection.execute(statement)
    connection.close()
    found = read_containerd(str(snapshotter.root))
    assert not found.layers
    assert str(database) in found.unread[0]
    assert told in found.unread[0]


@pytest.mark.parametrize("data", [None, b"", b"not a database" * 1000])
def test_a_database_that_is_no_database_is_told(
    snapshotter: Snapshotter, data: bytes | None
) -> None:
    database = snapshotter.root / DATABASE
    database.parent.mkdir(parents=True)
    if data is not None:
        database.write_bytes(data)
    found = read_containerd(str(snapshotter.root))
    assert str(database) in found.unread[0]
