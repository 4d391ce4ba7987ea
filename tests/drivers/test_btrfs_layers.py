"""What only btrfs does: subvolumes in layers, limits of size, space that comes back."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.drivers.btrfs.driver import BtrfsDriver
from graphdriver.errors import UnsupportedError
from graphdriver.layer.tree import remove
from graphdriver.linux import btrfs as calls
from graphdriver.linux import btrfs_quota
from tests.support.filesystems import loop, sync

MB = 1 << 20
PATIENCE = 120.0
"""Seconds that btrfs may take to give space back."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of its own, since quotas are a whole filesystem's."""
    with loop("btrfs", tmp_path) as place:
        yield place


@pytest.fixture
def home(btrfs: Path) -> Path:
    """A home on a filesystem that is shared with other tests."""
    return Path(tempfile.mkdtemp(dir=btrfs))


def taken_up(home: Path, *options: str) -> BtrfsDriver:
    driver = BtrfsDriver()
    driver.init(str(home), options, [], [])
    return driver


def root(driver: BtrfsDriver, id: str) -> Path:
    return Path(driver.get(id, ""))


def subvolume(at: Path) -> Path:
    directory = os.open(at.parent, os.O_RDONLY)
    calls.create_subvolume(directory, bytes(at.name, "ascii"))
    os.close(directory)
    return at


def id_of(at: Path) -> int:
    directory = os.open(at, os.O_RDONLY)
    try:
        return calls.subvolume_of(directory).id
    finally:
        os.close(directory)


def subvolumes(place: Path) -> set[int]:
    """All that are on the filesystem, but for those that are being deleted."""
    directory = os.open(place, os.O_RDONLY)
    try:
        found = [calls.subvolume_of(directory).id]
        for id in found:
            found += [id for id, _ in calls.subvolumes_in(directory, id)]
        return set(found[1:])
    finally:
        os.close(directory)


def test_to_remove_a_layer_no_directory_of_it_is_walked(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = taken_up(home)
    driver.create("a", "", "", {})
    nest(root(driver, "a"))
    left = []

    def remove_tree(dir_fd: int, name: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):  # of what a probe never left
            directory = os.open(name, os.O_RDONLY, dir_fd=dir_fd)
            left.append(os.listdir(directory))
            os.close(directory)
        remove.remove_tree(dir_fd, name)

    monkeypatch.setattr("graphdriver.drivers.btrfs.subvolumes.remove_tree", remove_tree)
    driver.remove("a")
    driver._store.settle()
    assert left == [[]]


# Subvolumes that containers make.


def nest(at: Path) -> list[Path]:
    """Make subvolumes in a directory and in each other, some of which cannot be written to."""
    made = [subvolume(at / "one"), subvolume(at / "one" / "two")]
    (at / "folder").mkdir()
    made.append(subvolume(at / "folder" / "three"))
    made.append(subvolume(at / "folder" / "three" / "four"))
    for path in made:
        (path / "file").write_text(path.name)
    subprocess.run(["btrfs", "property", "set", str(made[2]), "ro", "true"], check=True)
    return made


def test_subvolumes_in_a_layer_are_in_its_child(home: Path) -> None:
    driver = taken_up(home)
    driver.create("a", "", "", {})
    made = nest(root(driver, "a"))
    driver.create("b", "a", "", {})
    copies = [root(driver, "b") / path.relative_to(root(driver, "a")) for path in made]
    for path, copy in zip(made, copies, strict=True):
        assert (copy / "file").read_text() == path.name
        (copy / "file").write_text("changed")
        assert (path / "file").read_text() == path.name


def test_subvolumes_in_a_layer_go_with_it(place: Path) -> None:
    driver = taken_up(place)
    driver.create("a", "", "", {})
    nest(root(driver, "a"))
    driver.create("b", "a", "", {})
    assert len(subvolumes(place)) == 10
    driver.remove("a")
    driver._store.settle()
    assert len(subvolumes(place)) == 5
    driver.remove("b")
    driver._store.settle()
    assert not subvolumes(place)
    assert not list((place / ".trash").iterdir())


def test_subvolumes_deeper_than_any_path_go_too(place: Path) -> None:
    driver = taken_up(place)
    driver.create("a", "", "", {})
    at = os.open(root(driver, "a"), os.O_RDONLY)
    for _ in range(40):
        calls.create_subvolume(at, b"d" * 200)
        inner = os.open(b"d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    assert len(subvolumes(place)) == 41
    driver.remove("a")
    driver._store.settle()
    assert not subvolumes(place)


# Removal and sweeping.


def test_a_layer_that_is_no_subvolume_takes_no_other_with_it(place: Path) -> None:
    driver = taken_up(place)
    for id in "abc":
        driver.create(id, "", "", {})
    (root(driver, "a") / "file").touch()
    subprocess.run(["cp", "-a", str(place / "a"), str(place / "copied")], check=True)
    driver.remove("copied")
    driver._store.settle()
    assert not list((place / ".trash").iterdir())
    assert len(subvolumes(place)) == 3
    assert (root(driver, "a") / "file").exists()


def test_what_a_crash_left_is_swept_at_the_next_start(place: Path) -> None:
    driver = taken_up(place)
    driver.create("a", "", "", {})
    for name in (".staging/b", ".trash/c"):
        (place / name).mkdir()
        nest(subvolume(place / name / "root"))
    subvolume(place / ".btrfs-probe")
    assert len(subvolumes(place)) == 12
    again = taken_up(place)
    again._store.settle()
    assert subvolumes(place) == {id_of(root(again, "a"))}
    assert not list((place / ".staging").iterdir())
    assert not list((place / ".trash").iterdir())


def test_a_removed_layers_space_comes_back(place: Path) -> None:
    driver = taken_up(place)
    driver.create("a", "", "", {})
    before = free(place)
    (root(driver, "a") / "file").write_bytes(os.urandom(MB) * 100)
    driver.create("b", "a", "", {})
    assert free(place) < before - 90 * MB
    driver.remove("a")
    driver.remove("b")
    driver._store.settle()
    deadline = time.monotonic() + PATIENCE
    while free(place) < before - 10 * MB:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def free(place: Path) -> int:
    """Return the bytes that are free, once btrfs has written all, and gone on deleting."""
    ask = ["btrfs", "filesystem", "sync", str(place)]
    subprocess.run(ask, check=True, stdout=subprocess.DEVNULL)
    return shutil.disk_usage(place).free


# Usage.


def test_usage_is_what_a_layer_does_not_share_with_its_parent(home: Path) -> None:
    driver = taken_up(home)
    driver.create("image", "", "", {})
    image = root(driver, "image")
    (image / "small").write_bytes(bytes(100))
    (image / "big").write_bytes(os.urandom(4 * MB))
    (image / "directory").mkdir()
    for number in range(100):
        (image / "directory" / f"{number}").touch()
    own = nest(image)
    sync(home)
    assert driver.usage("image").size == 100 + 4 * MB + sum(len(path.name) for path in own)
    assert driver.usage("image").inodes == 1 + 2 + 101 + 1 + 2 * len(own)
    driver.create("a", "image", "", {})
    assert driver.usage("a").size == 0
    before = driver.usage("a").inodes
    (root(driver, "a") / "new").write_bytes(bytes(MB))
    os.link(root(driver, "a") / "new", root(driver, "a") / "again")
    with open(root(driver, "a") / "big", "r+b") as file:
        file.write(bytes(8192))
    (root(driver, "a") / "one" / "file").write_text("within")
    with open(root(driver, "a") / "hole", "wb") as file:
        file.truncate(MB)
    sync(home)
    assert driver.usage("a").size == MB + 8192 + len("within")
    assert driver.usage("a").inodes - before <= 5  # new, big, hole, file, and the root
    assert driver.usage("image").size == 100 + 4 * MB + sum(len(path.name) for path in own)


def test_usage_is_counted_without_a_walk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = taken_up(home)
    driver.create("a", "", "", {})
    (root(driver, "a") / "file").write_bytes(bytes(MB))
    sync(home)
    monkeypatch.setattr(os, "scandir", None)
    monkeypatch.setattr(os, "listdir", None)
    assert driver.usage("a").size == MB


# Limits of size.


def test_a_limit_holds_for_what_a_layer_adds_to_its_image(place: Path) -> None:
    driver = taken_up(place)
    driver.create("image", "", "", {})
    (root(driver, "image") / "file").write_bytes(bytes(40 * MB))
    assert ("Quotas", "off") in driver.status()
    assert driver.get_metadata("image") == {}
    driver.create_read_write("a", "image", "", {"size": "20M"})
    assert ("Quotas", "simple") in driver.status()
    assert (root(driver, "a") / "file").stat().st_size == 40 * MB
    (root(driver, "a") / "some").write_bytes(bytes(10 * MB))
    with pytest.raises(OSError) as raised:
        (root(driver, "a") / "more").write_bytes(bytes(20 * MB))
    assert raised.value.errno == errno.EDQUOT
    free(place)
    told = driver.get_metadata("a")
    assert int(told["Size"]) == 20 * MB
    assert 10 * MB <= int(told["Used"]) <= 20 * MB
    # What stands upon it has no limit, nor does another container of the same image.
    driver.create("b", "a", "", {})
    driver.create_read_write("c", "image", "", {})
    for id in "bc":
        (root(driver, id) / "much").write_bytes(bytes(40 * MB))
        assert driver.get_metadata(id) == {}


def test_a_limit_is_not_got_around_by_making_subvolumes(place: Path) -> None:
    driver = taken_up(place)
    driver.create_read_write("a", "", "", {"size": "20M"})
    inner = subvolume(subvolume(root(driver, "a") / "one") / "two")
    with pytest.raises(OSError) as raised:
        (inner / "file").write_bytes(bytes(30 * MB))
    assert raised.value.errno == errno.EDQUOT


@pytest.mark.parametrize("nested", [False, True])
def test_a_layer_at_its_limit_is_removed_with_all_that_is_in_it(nested: bool, place: Path) -> None:
    driver = taken_up(place)
    driver.create_read_write("a", "", "", {"size": "20M"})
    number = id_of(root(driver, "a"))
    if nested:
        nest(root(driver, "a"))
    with pytest.raises(OSError):
        (root(driver, "a") / "file").write_bytes(bytes(30 * MB))
    driver.remove("a")
    driver._store.settle()
    assert "Undeleted" not in dict(driver.status())
    assert not subvolumes(place)
    directory = os.open(place, os.O_RDONLY)
    assert btrfs_quota.quota_of(directory, number) is None
    os.close(directory)


def test_a_homes_size_is_for_containers_only(place: Path) -> None:
    driver = taken_up(place, "btrfs.size=30M")
    driver.create("image", "", "", {})
    driver.create_read_write("a", "image", "", {})
    driver.create_read_write("b", "image", "", {"size": "5M"})
    sizes = [driver.get_metadata(id).get("Size") for id in ("image", "a", "b")]
    assert sizes == [None, str(30 * MB), str(5 * MB)]


def test_beside_other_quotas_a_size_is_refused(place: Path) -> None:
    subprocess.run(["btrfs", "quota", "enable", str(place)], check=True)
    driver = taken_up(place)
    driver.create("a", "", "", {})
    assert ("Quotas", "not simple") in driver.status()
    assert driver.get_metadata("a") == {}
    with pytest.raises(UnsupportedError, match="btrfs quota disable"):
        driver.create_read_write("b", "a", "", {"size": "10M"})
    assert not driver.exists("b")
    driver.remove("a")
    driver._store.settle()
    assert not subvolumes(place)


# Where it works, and what it knows.


def test_unknown_options_are_refused_with_the_known_ones(home: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"btrfs: unknown option 'colour'; it takes size="):
        taken_up(home, "colour=red")
    driver = taken_up(home)
    with pytest.raises(UnsupportedError, match=r"btrfs: unknown option 'colour'; it takes size="):
        driver.create("a", "", "", {"colour": "red"})
    with pytest.raises(UnsupportedError, match="'much' is not a size"):
        driver.create("a", "", "", {"size": "much"})
    assert not driver.exists("a")


def test_it_says_where_it_works(home: Path) -> None:
    assert 20 < BtrfsDriver.probe(str(home)).rank < 30
    assert not list(home.iterdir())
    for refused in (BtrfsDriver.probe, lambda home: taken_up(Path(home))):
        with (
            tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere,
            pytest.raises(UnsupportedError, match="is on tmpfs; set the daemon's data-root to"),
        ):
            refused(elsewhere)


def test_in_a_user_namespace_it_says_why_not_and_leaves_nothing(home: Path) -> None:
    home.chmod(0o755)
    ask = f"from graphdriver.drivers.btrfs.driver import BtrfsDriver; BtrfsDriver.probe({str(home)!r})"
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", ask]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert (
        "requires CAP_SYS_ADMIN outside of all user namespaces; use overlay2 or vfs" in done.stderr
    )
    assert not list(home.iterdir())


def test_a_home_that_was_copied_file_by_file_says_what_it_lacks(home: Path, btrfs: Path) -> None:
    driver = taken_up(home)
    driver.create("a", "", "", {})
    (root(driver, "a") / "file").write_text("x")
    copied = Path(tempfile.mkdtemp(dir=btrfs))
    subprocess.run(["cp", "-a", f"{home}/.", str(copied)], check=True)
    driver = taken_up(copied)
    assert (root(driver, "a") / "file").read_text() == "x"
    with pytest.raises(UnsupportedError, match="parent a is a plain directory, not a subvolume"):
        driver.create("b", "a", "", {})
    assert not driver.exists("b")
    driver.remove("a")
    driver.create("a", "", "", {})
    driver.create("b", "a", "", {})


def test_what_is_no_directory_in_the_trash_is_deleted(home: Path) -> None:
    taken_up(home).cleanup()
    (home / ".trash/file").touch()
    (home / ".trash/layer").mkdir()
    (home / ".trash/layer/root").touch()
    taken_up(home).cleanup()
    assert os.listdir(home / ".trash") == []
