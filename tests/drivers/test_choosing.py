"""Which driver is the best one on which filesystem, and in a user namespace; and why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from graphdriver.drivers.choice import choose
from graphdriver.errors import UnsupportedError
from graphdriver.serving.home import Home
from tests.support.filesystems import loop
from tests.support.full import tmpfs
from tests.support.ground import require, tool

SHARE = "unchanged files are shared"
STORE = "layers are stored as they come"
COPY = "each layer is a full copy, on any filesystem"
REFLINK = "each layer is a copy that shares unchanged blocks (reflink)"
SNAPSHOTS = "layers are snapshots; simple quotas limit their size"

STORING = {"overlay2": SHARE, "erofs": STORE}

RANKED = {
    "ext4": {**STORING, "fuse-overlayfs": SHARE, "vfs": COPY, "btrfs": ""},
    "ext4-untyped": {
        "fuse-overlayfs": SHARE,
        "vfs": COPY,
        "btrfs": "",
        "erofs": "",
        "overlay2": "",
    },
    "xfs": {**STORING, "fuse-overlayfs": SHARE, "vfs": REFLINK, "btrfs": ""},
    "btrfs": {
        "overlay2": SHARE,
        "btrfs": SNAPSHOTS,
        "erofs": STORE,
        "fuse-overlayfs": SHARE,
        "vfs": REFLINK,
    },
    "tmpfs": {**STORING, "fuse-overlayfs": SHARE, "vfs": COPY, "btrfs": ""},
    "user namespace": {
        "overlay2": SHARE,
        "fuse-overlayfs": SHARE,
        "vfs": COPY,
        "btrfs": "",
        "erofs": "",
    },
}
"""Which driver works and why, the best one first; one without a reason does not work."""

WHY_NOT = {
    "btrfs": ("set the daemon's data-root to a btrfs",),
    "overlay2": ("(d_type); make it again",),
    "erofs": ("(d_type); make it again", "no images in a user namespace; use overlay2"),
}

INSIDE = 'mount -t tmpfs tmpfs "$1" && exec "$0" -m graphdriver drivers --data-root "$1"'


def told(*command: str) -> dict[str, str]:
    """Run the command that tells of drivers; return what it says of each."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (line.split(maxsplit=1) for line in done.stdout.splitlines())
    return {name: said.strip() for name, said in lines}


def as_ranked(said: dict[str, str], ranked: dict[str, str]) -> None:
    """See that drivers are told in their order, each with its reason."""
    assert list(said) == list(ranked)
    for name, reason in ranked.items():
        begin = f"works: {reason}" if reason else "does not work: "
        assert said[name].startswith(begin)
        assert reason or any(text in said[name] for text in WHY_NOT[name])


@pytest.mark.root
@pytest.mark.parametrize("kind", ["ext4", "ext4-untyped", "xfs", "btrfs"])
def test_drivers_are_ranked_by_the_filesystem(kind: str, tmp_path: Path) -> None:
    with loop(kind, tmp_path) as place:
        home = str(place / "not/yet/there")
        said = told(sys.executable, "-m", "graphdriver", "drivers", "--data-root", home)
        as_ranked(said, RANKED[kind])
        assert choose(home).name == next(iter(RANKED[kind]))


@pytest.mark.root
def test_drivers_are_ranked_on_tmpfs() -> None:
    said = told(sys.executable, "-m", "graphdriver", "drivers", "--data-root", "/dev/shm")
    as_ranked(said, RANKED["tmpfs"])


def test_drivers_are_ranked_in_a_user_namespace(tmp_path: Path) -> None:
    require(os.path.exists("/dev/fuse"), "/dev/fuse is missing")
    begin = [tool("unshare"), "--user", "--map-root-user", "--mount", "/bin/sh", "-c", INSIDE]
    as_ranked(told(*begin, sys.executable, str(tmp_path)), RANKED["user namespace"])


@pytest.mark.root
def test_homes_tell_the_driver_where_nothing_can_be_written(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "tmpfs", 1024) as place:
        for name in ("py-a", "py-b"):
            Home(str(place / name)).claim("docker", "overlay2", 1)
        (place / "image").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        assert choose(str(place)).name == "overlay2"
        subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        Home(str(place / "other")).claim("docker", "vfs", 1)
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        with pytest.raises(UnsupportedError, match=r"Read-only file system.*name the driver"):
            choose(str(place))
