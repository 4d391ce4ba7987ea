"""Containers in a user namespace, told of by labels: containerd copies, or shifts (2.x)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.containerd import Containerd, imported
from tests.support.containerd_images import busybox
from tests.support.ground import engine
from tests.support.remapped import CONTAINER, MAP, WITHIN, owners_inside
from tests.support.snapshotter import Snapshotter

CAPABILITIES = ["", "remap-ids"]


def capabilities() -> list[str]:
    """Return what a proxy's configuration may say: 1.7 knows the word, but shifts nothing."""
    said = subprocess.run([*engine("containerd"), "--version"], capture_output=True, text=True)
    version = said.stdout.split()[2]
    return CAPABILITIES[:1] if version.startswith("1.") else CAPABILITIES


@pytest.mark.root
@pytest.mark.parametrize("capability", capabilities())
def test_a_container_finds_its_own_owners(
    snapshotter: Snapshotter, folder: Path, capability: str
) -> None:
    folder.chmod(0o711)  # the container's root passes through
    capable = (capability,) if capability else ()
    with Containerd(folder, snapshotter.address, capable).running() as containerd:
        imported(containerd, folder, [busybox()])
        remap = ("--uidmap", MAP, "--gidmap", MAP, "--remap-labels")
        assert owners_inside(containerd, *remap) == WITHIN
        mounts = containerd.ctr("snapshot", "--snapshotter", "ours", "mounts", "/place", CONTAINER)
        assert (MAP in mounts) == bool(capability)
