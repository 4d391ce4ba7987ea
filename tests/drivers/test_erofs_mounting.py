"""One image on a directory, in each way."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from graphdriver.drivers.erofs.mounting import Way, mount_image
from graphdriver.errors import GraphDriverError
from graphdriver.layer.erofs.index import HEAD, Place, write_index
from graphdriver.layer.erofs.structures import BLOCK
from graphdriver.layer.erofs.tree import Directory, Inode
from graphdriver.linux.mount import MNT_DETACH, unmount
from graphdriver.linux.mountinfo import MountPoint, mount_points
from tests.support.filesystems import loop
from tests.support.ground import require
from tests.support.overlays import mounted_overlay
from tests.support.page_cache import forget, pages_in_memory


@pytest.fixture(autouse=True)
def root() -> None:
    require(os.geteuid() == 0, "mounts need root")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with loop("ext4", tmp_path_factory.mktemp("ext4")) as place:
        yield place


@pytest.fixture
def place(disk: Path) -> Iterator[Path]:
    """A new directory on ext4."""
    with tempfile.TemporaryDirectory(dir=disk) as path:
        yield Path(path)
    assert devices_of(Path(path)) == []


def devices_of(place: Path) -> list[str]:
    """Return the files below a directory that are attached to a loop device."""
    command = ["losetup", "--list", "--noheadings", "--output", "BACK-FILE"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    return [line for line in found if line.startswith(f"{place}/")]


def write_image(path: Path, files: Mapping[str, tuple[int, bytes]]) -> None:
    """Write an image of files with modes and content; a device's content is its number."""
    tree = Directory(stat.S_IFDIR | 0o755, 0, 0, 0)
    tar = b""
    for name, (mode, content) in files.items():
        inode = Inode(mode, 0, 0, 0)
        if stat.S_ISREG(mode):
            inode.size, inode.data = len(content), len(tar)
            tar += content + bytes(-len(content) % BLOCK)
        else:
            inode.rdev = int(content)
        tree.entries[name.encode()] = inode
    with open(path, "xb") as file:
        file.write(bytes(HEAD) + tar)
        file.flush()
        sizes = {"tar_size": len(tar), "copied_size": 0}
        write_index(tree, file.fileno(), Place.BEHIND_TAR, **sizes, uuid=b"u" * 16)


@contextlib.contextmanager
def mounted(image: Path, way: Way) -> Iterator[Path]:
    """Mount an image beside its file for a ``with`` block."""
    target = image.with_suffix(".mounted")
    target.mkdir()
    file, directory = os.open(image, os.O_RDONLY), os.open(target, os.O_PATH)
    try:
        mount_image(file, directory, way)
    finally:
        os.close(file)
        os.close(directory)
    try:
        yield target
    finally:
        unmount(str(target), MNT_DETACH)


def mount_of(target: Path) -> MountPoint:
    return next(one for one in mount_points() if one.point == os.fsencode(target))


FILE = stat.S_IFREG | 0o644


@pytest.mark.parametrize("way", Way)
def test_an_image_shows_its_files_and_cannot_be_written_to(place: Path, way: Way) -> None:
    write_image(place / "image", {"a": (FILE, b"one"), "b": (FILE, b"two" * 1000)})
    with mounted(place / "image", way) as target:
        assert sorted(os.listdir(target)) == ["a", "b"]
        assert (target / "a").read_bytes() == b"one"
        assert (target / "b").read_bytes() == b"two" * 1000
        with pytest.raises(OSError, match="Read-only"):
            (target / "a").write_bytes(b"")
        with pytest.raises(OSError, match="Read-only"):
            os.chmod(target / "a", 0)


@pytest.mark.parametrize("way", Way)
def test_a_mount_needs_no_name_of_its_file(place: Path, way: Way) -> None:
    write_image(place / "image", {"a": (FILE, b"x" * 10_000)})
    with mounted(place / "image", way) as target:
        (place / "image").unlink()
        assert (target / "a").read_bytes() == b"x" * 10_000


@pytest.mark.parametrize("way", Way)
def test_a_path_may_be_longer_than_a_mount_s_options_can_hold(place: Path, way: Way) -> None:
    deep = place / ("d" * 200) / ("e" * 200)
    deep.mkdir(parents=True)
    write_image(deep / "image", {"a": (FILE, b"one")})
    with mounted(deep / "image", way) as target:
        assert (target / "a").read_bytes() == b"one"


NULL = str(os.makedev(1, 3)).encode()


@pytest.mark.parametrize("way", Way)
def test_programs_and_devices_work_in_containers_and_not_on_the_image_s_mount(
    place: Path, way: Way
) -> None:
    program = Path(shutil.which("id") or "/usr/bin/id").read_bytes()
    files = {"id": (stat.S_IFREG | 0o4755, program), "null": (stat.S_IFCHR | 0o666, NULL)}
    write_image(place / "image", files)
    with mounted(place / "image", way) as target:
        with pytest.raises(PermissionError):
            subprocess.run([target / "id"], check=True)
        with pytest.raises(PermissionError):
            (target / "null").read_bytes()
        (place / "upper").mkdir()
        with mounted_overlay(place, [target], place / "upper") as merged:
            done = subprocess.run(
                ["./id", "-u"],
                cwd=merged,
                user=65534,
                group=65534,
                check=True,
                stdout=subprocess.PIPE,
            )
            assert done.stdout == b"0\n"
            assert (merged / "null").read_bytes() == b""


@pytest.mark.parametrize("way", Way)
def test_an_image_that_is_mounted_again_is_not_read_from_the_disk_again(
    place: Path, way: Way
) -> None:
    write_image(place / "image", {"a": (FILE, b"x" * (4 << 20))})
    forget(place / "image")
    with mounted(place / "image", way) as target:
        (target / "a").read_bytes()
    assert pages_in_memory(place / "image") >= 1024


def test_where_a_file_cannot_be_mounted_the_error_says_so() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        image = Path(directory, "image")
        write_image(image, {})
        text = r"the filesystem \(tmpfs\), or this kernel, needs a loop device for it"
        with pytest.raises(GraphDriverError, match=text), mounted(image, Way.FILE):
            pass


@pytest.mark.parametrize("way", Way)
def test_a_file_that_is_no_image_is_refused_with_the_kernel_s_reason(place: Path, way: Way) -> None:
    (place / "image").write_bytes(b"x" * 8192)
    text = "the image cannot be mounted: Invalid argument.*; see the kernel's log"
    with pytest.raises(GraphDriverError, match=text), mounted(place / "image", way):
        pass
    assert devices_of(place) == []


_KILLED = """
import os, sys
from graphdriver.drivers.erofs.mounting import Way, mount_image
mount_image(os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_PATH), Way(sys.argv[3]))
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("way", Way)
def test_a_mount_outlives_a_killed_process_and_then_ends_as_any_other(
    place: Path, way: Way
) -> None:
    write_image(place / "image", {"a": (FILE, b"one")})
    (place / "target").mkdir()
    paths = [str(place / "image"), str(place / "target")]
    command = [sys.executable, "-c", _KILLED, *paths, way.value]
    assert subprocess.run(command, check=False).returncode == -9
    assert (place / "target/a").read_bytes() == b"one"
    source = mount_of(place / "target").source
    assert source.startswith(b"/dev/loop" if way is Way.LOOP else b"/proc/self/fd/")
    unmount(paths[1])
