"""The commands that look agree with a real containerd on snapshots, parents and sizes."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from graphdriver.cli.main import main
from tests.support.containerd import Containerd, imported
from tests.support.containerd_images import chain_id, ten_layers
from tests.support.snapshotter import Snapshotter
from tests.support.waiting import wait_until


def layers_of(snapshotter: Snapshotter) -> Mapping[str, Any]:
    """Return what ``layers`` tells of each snapshot, by containerd's key for it."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        assert main(["layers", "--socket", snapshotter.address, "--json"]) == 0
    layers = {one["id"]: one for one in json.loads(told.getvalue())["layers"]}
    found = {}
    for one in layers.values():
        above = [owner for child in one["children"] for owner in layers[child]["owners"]]
        (own,) = [owner["id"] for owner in one["owners"] if owner not in above]
        found[own.rpartition("/")[2]] = one  # containerd's key is NAMESPACE/NUMBER/KEY
    return found


@pytest.mark.root
def test_snapshots_are_shown_as_containerd_lists_them(
    snapshotter: Snapshotter, folder: Path
) -> None:
    with Containerd(folder, snapshotter.address).running() as containerd:
        layers = ten_layers(20)
        imported(containerd, folder, layers)
        containerd.ctr("snapshot", "--snapshotter", "ours", "prepare", "web", chain_id(layers))
        usage = ("snapshot", "--snapshotter", "ours", "usage", "-b")

        def committed() -> Mapping[str, Any]:
            return {key: one for key, one in layers_of(snapshotter).items() if key != "web"}

        wait_until(lambda: all(one["own_size"] is not None for one in committed().values()))
        found = layers_of(snapshotter)
        assert found["web"]["parent"] == found[chain_id(layers)]["id"]
        assert found.keys() == containerd.snapshots().keys()
        assert len(committed()) == len(layers)
        for key, one in committed().items():
            _, size, inodes = containerd.ctr(*usage, key).splitlines()[1].split()
            assert (one["own_size"], one["inodes"]) == (int(size), int(inodes))
