"""Mounts of fuse-overlayfs: their helpers outlive the plugin, and what dies is made anew."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.drivers.overlay import fuse_mounter
from graphdriver.drivers.overlay.fuse_overlayfs import FuseOverlayfsDriver
from graphdriver.errors import UnsupportedError
from tests.drivers.layers import recorded, taking_up
from tests.drivers.test_overlay_mounts import mounts_in
from tests.support.full import small_tmpfs, use_up_inodes
from tests.support.waiting import wait_until

TakeUp = Callable[..., FuseOverlayfsDriver]


@pytest.fixture
def take_up(home: Path) -> Iterator[TakeUp]:
    """Make a driver that has taken up `home`, with options; later ones are restarts."""
    with taking_up(FuseOverlayfsDriver, home) as take_up:
        yield take_up


def helpers(home: Path) -> list[int]:
    """Return the processes that serve mounts in a home."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"fuse-overlayfs") and os.fsencode(home) in words[-2]:
                found.append(int(name))
    return found


def kill_helpers(home: Path) -> None:
    for pid in helpers(home):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not helpers(home))


def pair(driver: FuseOverlayfsDriver) -> str:
    """Make a layer and a mounted one upon it; return the mount."""
    driver.create("lower", "", "", {})
    Path(driver.get("lower", ""), "file").write_text("lower")
    driver.create_read_write("upper", "lower", "", {})
    return driver.get("upper", "")


def test_a_helper_is_in_a_session_of_its_own(home: Path, take_up: TakeUp) -> None:
    pair(take_up())
    (pid,) = helpers(home)
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) != os.getpgid(0)
    environment = Path("/proc", str(pid), "environ").read_bytes()
    assert environment.rstrip(b"\0") == b"PATH=" + fuse_mounter._PATH.encode()


def test_a_mount_that_has_no_room_for_its_work_directory_says_so(
    tmp_path: Path, take_up: TakeUp
) -> None:
    with small_tmpfs(tmp_path) as place:
        driver = take_up(home=place)
        driver.create("lower", "", "", {})
        driver.create_read_write("upper", "lower", "", {})
        use_up_inodes(place)
        (place / "fillers/0").unlink()  # room for the directory that it is mounted on
        with pytest.raises(OSError, match="No space left on device"):
            driver.get("upper", "")
        driver.cleanup()


_OTHER = """
import os, sys
from graphdriver.drivers.overlay.fuse_overlayfs import FuseOverlayfsDriver
driver = FuseOverlayfsDriver()
driver.init(sys.argv[1], [], (), ())
driver.create("lower", "", "", {})
open(driver.get("lower", "") + "/file", "w").write("lower")
driver.create_read_write("upper", "lower", "", {})
print(driver.get("upper", ""), flush=True)
os.kill(0, 9)
"""


def test_mounts_outlive_a_plugin_that_is_killed_with_its_group(home: Path, take_up: TakeUp) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _OTHER, str(home)], start_new_session=True, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    root = Path(os.fsdecode(done.stdout.strip()))
    assert (root / "file").read_text() == "lower"
    (root / "new").touch()
    os.setxattr(root / "file", "user.kept", b"yes")  # for that the program needs paths
    driver = take_up()
    assert len(helpers(home)) == 1
    os.setxattr(root / "new", "user.kept", b"yes")
    driver.put("upper")
    assert not mounts_in(home)
    assert sorted(recorded(driver, "upper")) == [b"file", b"new"]


def test_a_dead_mount_is_made_anew_at_the_next_get(home: Path, take_up: TakeUp) -> None:
    driver = take_up()
    root = Path(pair(driver))
    (root / "new").write_text("kept")
    kill_helpers(home)
    with pytest.raises(OSError, match="endpoint is not connected"):
        os.stat(root)
    assert driver.get("upper", "") == str(root)
    assert (root / "new").read_text() == "kept"
    assert len(mounts_in(home)) == 1
    driver.put("upper")  # of two gets
    assert (root / "file").read_text() == "lower"
    driver.put("upper")
    assert not mounts_in(home)


@pytest.mark.parametrize("end", ["put", "remove", "cleanup"])
def test_a_dead_mount_is_ended_like_any_other(home: Path, take_up: TakeUp, end: str) -> None:
    driver = take_up()
    pair(driver)
    # Somebody in it keeps it busy.
    inside = os.open(home / "upper/merged", os.O_RDONLY)
    try:
        kill_helpers(home)
        restarted = take_up()
        getattr(restarted, end)(*(["upper"] if end != "cleanup" else []))
        assert not mounts_in(home)
        assert restarted.exists("upper") == (end != "remove")
        assert not (home / "upper/merged").exists()
    finally:
        os.close(inside)


def test_what_is_read_in_the_upper_directory_is_what_was_written(
    home: Path, take_up: TakeUp
) -> None:
    driver = take_up()
    root = Path(pair(driver))
    with open(root / "open", "wb", buffering=0) as file:
        file.write(b"x" * 100_000)
        assert driver.diff_size("upper", "lower") == 100_000
        assert [change.path for change in driver.changes("upper", "lower")] == ["/open"]


def test_a_device_of_a_layer_below_is_never_read(home: Path, take_up: TakeUp) -> None:
    driver = take_up()
    driver.create("lower", "", "", {})
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as secret:
        secret.write(b"the machine's own" * 1000)
        secret.flush()
        loop = subprocess.run(
            ["losetup", "--find", "--show", secret.name], capture_output=True, text=True, check=True
        ).stdout.strip()
        try:
            number = os.stat(loop).st_rdev
            os.mknod(Path(driver.get("lower", ""), "disk"), stat.S_IFBLK | 0o600, number)
            driver.create_read_write("upper", "lower", "", {})
            root = Path(driver.get("upper", ""))
            with pytest.raises(PermissionError):
                os.chmod(root / "disk", 0o666)
            assert not (home / "upper/diff/disk").exists()
        finally:
            subprocess.run(["losetup", "--detach", loop], check=True)


def test_a_machine_without_the_program_is_told_of(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuse_mounter, "_PATH", "/nowhere")
    with pytest.raises(UnsupportedError, match=r"not installed; install it .apt-get install fuse"):
        FuseOverlayfsDriver.probe(str(home))


def test_options_that_it_has_not_are_refused(take_up: TakeUp) -> None:
    with pytest.raises(UnsupportedError, match="fuse-overlayfs: unknown option 'volatile'"):
        take_up("volatile=true")


def test_on_a_home_that_keeps_no_devices_diffs_are_made_by_comparing(home: Path) -> None:
    """On overlayfs, where overlay2 cannot be: deletions are files ``.wh.NAME``."""
    for name in ("l", "u", "w", "m"):
        (home / name).mkdir()
    options = f"lowerdir={home}/l,upperdir={home}/u,workdir={home}/w"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "none", home / "m"], check=True)
    driver = FuseOverlayfsDriver()
    try:
        (home / "m/home").mkdir()
        driver.init(str(home / "m/home"), [], (), ())
        assert dict(driver.status())["Native Overlay Diff"] == "false"
        root = Path(pair(driver))
        (root / "file").unlink()
        (root / "new").mkdir()
        told = [(change.path, int(change.kind)) for change in driver.changes("upper", "lower")]
        assert told == [("/file", 2), ("/new", 1)]
        driver.create("again", "lower", "", {})
        driver.apply_diff("again", "lower", driver.diff("upper", "lower"))
        assert sorted(recorded(driver, "again")) == [b"new"]
    finally:
        driver.cleanup()
        driver._layers._store.settle()
        subprocess.run(["umount", home / "m"], check=True)


def test_a_name_that_its_mounts_cannot_have_is_refused_with_the_reason(
    home: Path, take_up: TakeUp
) -> None:
    driver = take_up()
    driver.create("below", "", "", {})
    driver.create("layer", "below", "", {})
    Path(driver.get("layer", ""), "written").touch()  # so the tar goes through the mount
    driver.put("layer")
    path = tars.pax([(b"path", b"n" * 252)])
    with pytest.raises(UnsupportedError, match=r"has 252 bytes, .*fuse-overlayfs\) takes 251"):
        driver.apply_diff("layer", "below", io.BytesIO(tars.tar(path, tars.file(b"n", b"x"))))
