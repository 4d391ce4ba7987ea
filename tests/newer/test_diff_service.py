"""A real containerd fills its snapshots, and makes layers of them, by our diff service."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.kit.tree import record
from graphdriver.containerd.questions import ask
from tests.support.containerd import IMAGE, Containerd, shown
from tests.support.containerd_images import chain_id, ten_layers, write_oci_image
from tests.support.filesystems import unmount
from tests.support.mounting import mount
from tests.support.snapshotter import Snapshotter

pytestmark = pytest.mark.root

FILES = 2000


@pytest.fixture
def containerd(folder: Path, snapshotter: Snapshotter) -> Iterator[Containerd]:
    with Containerd(folder, snapshotter.address, our_differ=True).running() as running:
        yield running


def calls(snapshotter: Snapshotter, name: str) -> int:
    """Return how many calls of a name succeeded."""
    status = ask(snapshotter.address, "status")
    assert isinstance(status, dict)
    call = status["calls"].get(name, {"count": 0, "errors": {}})
    count: int = call["count"] - sum(call["errors"].values())
    return count


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_layers_are_applied_as_containerds_own_differ_applies_them(
    containerd: Containerd, snapshotter: Snapshotter, folder: Path, compression: str
) -> None:
    layers = ten_layers(FILES)
    write_oci_image(folder / "image.tar", IMAGE, layers, compression)
    for name in ("ours", "overlayfs"):
        containerd.ctr("image", "import", "--snapshotter", name, str(folder / "image.tar"))
    name = chain_id(layers)
    with shown(containerd, "overlayfs", name, folder / "theirs") as root:
        theirs = record(root)
    with shown(containerd, "ours", name, folder / "ours") as root:
        ours = record(root)
    assert ours == theirs
    assert calls(snapshotter, "Apply") == len(layers)


def test_a_diff_is_a_layer_that_makes_the_same_tree_again(
    containerd: Containerd, snapshotter: Snapshotter, folder: Path
) -> None:
    layers = ten_layers(FILES)
    write_oci_image(folder / "image.tar", IMAGE, layers, "gzip")
    containerd.ctr("image", "import", "--snapshotter", "ours", str(folder / "image.tar"))
    use = ("snapshot", "--snapshotter", "ours")
    place = folder / "changed"
    place.mkdir()
    line = containerd.ctr(*use, "prepare", "--target", str(place), "changed", chain_id(layers))
    _, _, kind, source, _, _, options = line.split()
    mount(kind, source, str(place), options)
    try:
        (place / "srv/new").write_bytes(b"new")
        (place / "bin/ls").unlink()
    finally:
        unmount(place)
    archive = folder / "diff.tar.gz"
    archive.write_bytes(containerd.output(*use, "diff", "changed"))
    listed = subprocess.run(["tar", "-tzf", archive], check=True, capture_output=True, text=True)
    assert {"srv/new", "bin/.wh.ls"} <= {*listed.stdout.split()}
    assert calls(snapshotter, "Diff") == 1
    blob = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    tar = hashlib.sha256(gzip.decompress(archive.read_bytes())).hexdigest()
    assert f"containerd.io/uncompressed=sha256:{tar}" in containerd.ctr(
        "content", "ls", f"digest=={blob}"
    )
