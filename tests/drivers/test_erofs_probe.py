"""Where erofs works, in which way, and what it says where it does not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from graphdriver.drivers.erofs import probe
from graphdriver.drivers.erofs.mounting import Way, mount_image
from graphdriver.drivers.erofs.probe import Found, probe_erofs
from graphdriver.drivers.overlay.aliases import DirectoryAlias
from graphdriver.drivers.overlay.kernel_mounter import KernelMounter
from graphdriver.drivers.overlay.mounter import Overlay
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.linux import loop, xattr
from graphdriver.linux import mount as calls
from graphdriver.linux.mountinfo import mount_points
from tests.support.filesystems import loop as filesystem
from tests.support.ground import require
from tests.support.overlays import mounted_overlay


@pytest.fixture(autouse=True)
def root() -> None:
    require(os.geteuid() == 0, "mounts need root")


@pytest.fixture
def disk(xfs: Path) -> Iterator[Path]:
    """A new directory on a disk."""
    with tempfile.TemporaryDirectory(dir=xfs) as directory:
        yield Path(directory)


def leftovers_of(home: Path) -> list[bytes]:
    """Return the mounts and the loop devices of a probe of a home."""
    shown = os.fsencode(DirectoryAlias(str(home / ".overlay-probe")).path)
    mounts = [one.point for one in mount_points() if one.point.startswith(shown)]
    return mounts + [device for device, file in loop_devices().items() if file.startswith(shown)]


def loop_devices() -> dict[bytes, bytes]:
    """Return the files of all loop devices."""
    command = ["losetup", "--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE"]
    lines = subprocess.run(command, check=True, capture_output=True).stdout.splitlines()
    return {device: file for device, _, file in (line.partition(b" ") for line in lines)}


def test_each_filesystem_is_given_the_best_way_that_works_and_left_as_it_was(place: Path) -> None:
    found = probe_erofs(str(place))
    way = Way.LOOP if found.backing == "tmpfs" else Way.FILE
    assert found == Found(found.backing, way, has_xino=True)
    assert found.backing in {one.fstype for one in mount_points()}
    assert os.listdir(place) == []
    assert leftovers_of(place) == []


def test_a_disk_with_larger_blocks_will_do(tmp_path: Path) -> None:
    with filesystem("ext4-on-4k-blocks", tmp_path) as home:
        assert probe_erofs(str(home)) == Found("ext4", Way.FILE, has_xino=True)


def test_a_kernel_that_mounts_no_files_is_given_loop_devices(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mount(image_fd: int, target_fd: int, way: Way) -> None:
        if way is Way.FILE:
            raise GraphDriverError("refused, as before Linux 6.12")
        mount_image(image_fd, target_fd, way)

    monkeypatch.setattr(probe, "mount_image", mount)
    found = probe_erofs(str(disk))
    assert found.way is Way.LOOP
    assert str(found) == "mounted through loop devices"


def test_a_kernel_that_counts_a_file_as_a_level_is_given_loop_devices(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some kernels refuse the second overlay above an image that is a file, with this error."""
    ways: list[Way] = []
    mount = KernelMounter.mount

    def note(image_fd: int, target_fd: int, way: Way) -> None:
        ways.append(way)
        mount_image(image_fd, target_fd, way)

    def refuse(mounter: KernelMounter, overlay: Overlay) -> None:
        if overlay.target == "second" and ways[-1] is not Way.LOOP:
            raise GraphDriverError("maximum fs stacking depth exceeded")
        mount(mounter, overlay)

    monkeypatch.setattr(probe, "mount_image", note)
    monkeypatch.setattr(KernelMounter, "mount", refuse)
    assert probe_erofs(str(disk)).way is Way.LOOP
    assert ways == list(Way)


def test_where_no_way_works_the_error_tells_of_each(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CONTROL", "/dev/missing")
    text = (
        f"erofs: {re.escape(str(home))} is on tmpfs, and images cannot be mounted there"
        r" \(file: the image cannot be mounted: the filesystem \(tmpfs\), or this kernel, needs"
        r" a loop device for it; loop: a loop device is needed, and /dev/missing does not exist\);"
        r" load the module .*; or put the home on a disk with Linux 6\.12 or later, or use overlay2"
    )
    with pytest.raises(UnsupportedError, match=text):
        probe_erofs(str(home))
    assert os.listdir(home) == []
    assert leftovers_of(home) == []


LACKING: Mapping[str, tuple[Any, str, Any]] = {
    "trusted attributes": (xattr, "get", lambda *_: None),
    "access control lists": (probe, "_ACL", b"another"),
    "a file's content": (probe, "_CONTENT", b"another"),
    "holes": (probe, "_HOLE", 4096),
    "a large directory's names": (probe, "_NAMES", frozenset({b"another"})),
}


@pytest.mark.parametrize("what", LACKING)
def test_a_kernel_that_leaves_something_out_silently_is_refused(
    disk: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """By a stand-in: after the image is written, something else is expected of it."""
    place, name, value = LACKING[what]
    write = probe._write_image

    def write_then_expect(path: str) -> None:
        monkeypatch.undo()
        write(path)
        monkeypatch.setattr(probe, "_write_image", write_then_expect)
        monkeypatch.setattr(place, name, value)

    monkeypatch.setattr(probe, "_write_image", write_then_expect)
    with pytest.raises(UnsupportedError, match=f"the image is mounted without .*{what}"):
        probe_erofs(str(disk))


def test_a_kernel_without_erofs_is_told_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "knows", lambda name: name != "erofs")
    text = r"erofs: this kernel has no EROFS; load it \(modprobe erofs\), or use overlay2"
    with pytest.raises(UnsupportedError, match=text):
        probe_erofs(str(home))


def test_a_user_namespace_is_told_of(home: Path) -> None:
    ask = (
        "import sys; from graphdriver.drivers.erofs.probe import probe_erofs\n"
        "try: probe_erofs(sys.argv[1])\n"
        "except Exception as error: print(error)\n"
    )
    inside = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", ask]
    done = subprocess.run([*inside, str(home)], check=True, capture_output=True, text=True)
    text = "erofs: the kernel mounts no images in a user namespace; use overlay2\n"
    assert done.stdout == text


def test_a_home_on_overlayfs_is_told_of(home: Path) -> None:
    for name in ("lower", "upper"):
        (home / name).mkdir()
    text = "erofs: .* is on overlay, which cannot hold upper directories"
    with (
        mounted_overlay(home, [home / "lower"], home / "upper") as merged,
        pytest.raises(UnsupportedError, match=text),
    ):
        probe_erofs(str(merged))


def test_a_kernel_that_refuses_xino_is_told_of(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "XINO", "xino=refused")  # not what the mount table says
    assert not probe_erofs(str(disk)).has_xino


_KILLED = """
import os, sys
from graphdriver.drivers.erofs import probe
probe._effects_in = lambda root: os.kill(os.getpid(), 9)
probe.probe_erofs(sys.argv[1])
"""


@pytest.mark.parametrize("where", ["disk", "tmpfs"])
def test_what_a_killed_probe_left_is_cleared_away(disk: Path, home: Path, where: str) -> None:
    place = disk if where == "disk" else home
    done = subprocess.run([sys.executable, "-c", _KILLED, str(place)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(place) == [".overlay-probe"]
    left = leftovers_of(place)
    device = next((one for one in left if one.startswith(b"/dev/loop")), b"")
    assert bool(device) == (where == "tmpfs")
    probe_erofs(str(place))
    assert os.listdir(place) == []
    assert leftovers_of(place) == []
    # Without its mount, a file that is still attached has a path of one name.
    assert not loop_devices().get(device, b"").startswith(b"/image")


def test_a_record_is_read_as_it_was_written_and_damage_is_not_followed() -> None:
    for found in (Found("xfs", Way.FILE, True), Found("tmpfs", Way.LOOP, False)):
        assert Found.parse(found.record()) == found
    assert Found.parse({}) == Found("unknown", Way.FILE, has_xino=False)
    assert Found.parse({"way": ["loop"], "has_xino": "y", "backing": 7}) == Found("7")
