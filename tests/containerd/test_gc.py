"""``graphdriver gc`` on the root of a snapshotter, by the database of a real containerd."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from graphdriver.conformance.snapshotter.calls import Calls
from tests.support.command import graphdriver
from tests.support.containerd import IMAGE, Containerd, imported
from tests.support.containerd_images import busybox, chain_id
from tests.support.snapshotter import DRIVERS, Snapshotter

pytestmark = [
    pytest.mark.root,
    pytest.mark.parametrize(
        "snapshotter",
        [
            driver if driver == "overlay2" else pytest.param(driver, marks=pytest.mark.long)
            for driver in DRIVERS
        ],
        indirect=True,
    ),
]


def gc(snapshotter: Snapshotter, folder: Path, *words: str) -> tuple[int, list[str], str]:
    """Run the command; return its exit code, the snapshots that it tells, and its errors."""
    root = ("--containerd-root", str(folder / "root"))
    done = graphdriver("gc", "--json", *root, *words, str(snapshotter.root))
    told = json.loads(done.stdout)["layers"] if done.stdout else []
    return done.returncode, [one["id"] for one in told], done.stderr.decode()


def keys(calls: Calls) -> set[str]:
    return {one.name for one in calls.list()}


def test_only_what_containerd_does_not_name_is_removed(
    snapshotter: Snapshotter, folder: Path
) -> None:
    use = ("--snapshotter", "ours")
    with Containerd(folder, snapshotter.address).running() as containerd:
        layers = [busybox()]
        imported(containerd, folder, layers)
        containerd.ctr("snapshot", *use, "prepare", "kept", chain_id(layers))
        code, _, told = gc(snapshotter, folder, "--remove")
        assert (code, "meta.db is in use by process" in told) == (5, True)
    needed = keys(snapshotter.calls)
    (top,) = (key for key in needed if key.endswith(chain_id(layers)))
    # As containerd does it: it asks for a snapshot before it records it.
    snapshotter.calls.prepare("default/900/extract", top)
    snapshotter.calls.commit("default/901/lost", "default/900/extract")
    snapshotter.calls.prepare("default/902/upper", "default/901/lost")
    snapshotter.calls.view("default/903/view", "default/901/lost")
    assert gc(snapshotter, folder, "--remove")[0] == 5
    snapshotter.kill()

    lost = ["default/902/upper", "default/903/view", "default/901/lost"]
    before = snapshotter.layers()
    code, found, _ = gc(snapshotter, folder)
    assert (code, found) == (13, lost)
    assert snapshotter.layers() == before
    assert gc(snapshotter, folder, "--remove")[:2] == (0, lost)
    assert gc(snapshotter, folder)[:2] == (0, [])
    snapshotter.start()
    assert keys(snapshotter.calls) == needed
    with Containerd(folder, snapshotter.address).running() as containerd:
        containerd.sees_the_snapshotter()
        it = containerd.named("it")
        assert containerd.ctr("run", "--rm", *use, IMAGE, it, "/bin/sh", "-c", ":") == ""
        assert containerd.snapshots()["kept"] == "Active"


def test_the_metadata_of_another_containerd_removes_nothing(
    snapshotter: Snapshotter, folder: Path
) -> None:
    with Containerd(folder, snapshotter.address).running():
        pass
    snapshotter.calls.prepare("default/1/key")
    snapshotter.kill()
    code, _, told = gc(snapshotter, folder, "--remove")
    assert (code, "another containerd" in told) == (1, True)
    database = folder / "root/io.containerd.metadata.v1.bolt/meta.db"
    os.truncate(database, os.stat(database).st_size // 2)
    code, _, told = gc(snapshotter, folder, "--remove")
    assert (code, f"{database} is damaged" in told) == (1, True)
    assert snapshotter.layers()
