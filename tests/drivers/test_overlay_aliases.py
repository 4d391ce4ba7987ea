"""What is shown in a second place: without devices, alone, and ended by whoever comes next."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.drivers.overlay.aliases import DirectoryAlias
from graphdriver.files.path_lock import locked
from graphdriver.linux.mount import MS_NODEV
from graphdriver.linux.mountinfo import mount_points
from tests.support.waiting import wait_until


@pytest.fixture
def shown(home: Path) -> Iterator[DirectoryAlias]:
    one = DirectoryAlias(str(home), MS_NODEV)
    yield one
    one.unmount()
    assert not os.path.exists(one.path)


def times_mounted(path: str) -> int:
    return sum(one.point == os.fsencode(path) for one in mount_points())


def has_devices(path: str) -> bool:
    return not os.statvfs(path).f_flag & os.ST_NODEV


def test_a_directory_is_shown_without_devices_and_once(shown: DirectoryAlias, home: Path) -> None:
    (home / "file").touch()
    for _ in range(2):
        shown.mount()
        assert os.listdir(shown.path) == ["file"]
        assert times_mounted(shown.path) == 1
        assert not has_devices(shown.path)


def test_what_a_killed_process_showed_by_half_is_completed(
    shown: DirectoryAlias, home: Path
) -> None:
    with locked(shown.path):  # as the killed process did: another test's plugin sweeps meanwhile
        os.makedirs(shown.path)
        subprocess.run(["mount", "--bind", home, shown.path], check=True)
    assert has_devices(shown.path)
    shown.mount()
    assert times_mounted(shown.path) == 1
    assert not has_devices(shown.path)


def test_a_directory_that_was_made_anew_is_shown_anew(shown: DirectoryAlias, home: Path) -> None:
    (home / "folder").mkdir()
    inner = DirectoryAlias(str(home / "folder"))
    inner.mount()
    (home / "folder").rename(home / "former")
    (home / "folder").mkdir()
    (home / "folder/new").touch()
    inner.mount()
    assert os.listdir(inner.path) == ["new"]
    assert times_mounted(inner.path) == 1
    inner.unmount()
    assert not os.path.exists(inner.path)


def test_what_is_mounted_in_one_place_does_not_appear_in_the_other(
    shown: DirectoryAlias, home: Path
) -> None:
    (home / "folder").mkdir()
    subprocess.run(["mount", "--bind", home, home], check=True)
    try:
        # First private: it would be a peer of what it was made of, if that is shared.
        subprocess.run(["mount", "--make-private", "--make-shared", home], check=True)
        shown.mount()
        for one in (str(home), shown.path):
            subprocess.run(["mount", "-t", "tmpfs", "none", f"{one}/folder"], check=True)
        assert times_mounted(f"{home}/folder") == 1
        assert times_mounted(f"{shown.path}/folder") == 1
        shown.unmount()
        assert times_mounted(f"{home}/folder") == 1
    finally:
        subprocess.run(["umount", "--recursive", home], check=True)


def test_a_directory_is_shown_in_one_place_however_it_is_named(
    shown: DirectoryAlias, home: Path
) -> None:
    link = home / "link"
    link.symlink_to(home)
    assert DirectoryAlias(str(link)).path == shown.path


def test_what_is_shown_of_a_directory_that_is_gone_is_ended_by_the_next(
    shown: DirectoryAlias, home: Path
) -> None:
    (home / "gone").mkdir()
    (home / "stays").mkdir()
    gone, stays, never = (DirectoryAlias(str(home / name)) for name in ("gone", "stays", "never"))
    gone.mount()
    stays.mount()
    os.makedirs(never.path)  # of a process that was killed before it mounted
    (home / "gone").rmdir()
    shown.mount()
    # Another plugin that starts now may be sweeping the same directory; it is then the one to end it.
    wait_until(lambda: not os.path.exists(gone.path) and not os.path.exists(never.path))
    assert os.path.exists(stays.path)
    assert times_mounted(stays.path) == 1
    stays.unmount()


def test_a_process_that_stopped_in_its_middle_holds_up_no_other(
    shown: DirectoryAlias, home: Path
) -> None:
    stopped = DirectoryAlias(str(home / "stopped"))
    with locked(os.path.dirname(stopped.path)), locked(stopped.path):
        os.makedirs(stopped.path)
        shown.mount()
        assert os.path.exists(stopped.path)
        os.rmdir(stopped.path)


def test_a_process_with_mounts_of_its_own_leaves_what_it_does_not_see(
    shown: DirectoryAlias, home: Path
) -> None:
    """It sees no mount on the directory; to remove that would end the mount here."""
    (home / "file").touch()
    shown.mount()
    other = home / "other"
    other.mkdir()
    program = (
        "import sys; from graphdriver.drivers.overlay.aliases import DirectoryAlias;"
        "one = DirectoryAlias(sys.argv[1]); one.mount(); one.unmount()"
    )
    namespace = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    # Nothing that was mounted before is seen in it.
    script = 'umount "$1" && exec "$2" -c "$3" "$4"'
    subprocess.run(
        [*namespace, script, "sh", shown.path, sys.executable, program, str(other)], check=True
    )
    assert os.listdir(shown.path)
    assert times_mounted(shown.path) == 1
