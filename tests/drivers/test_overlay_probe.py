"""Places that overlay2 cannot be in: each says what is missing, and what to do."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver.drivers import choice
from graphdriver.drivers.overlay.aliases import DirectoryAlias
from graphdriver.drivers.overlay.fuse_mounter import FuseMounter
from graphdriver.drivers.overlay.fuse_overlayfs import FuseOverlayfsDriver
from graphdriver.drivers.overlay.kernel_mounter import KernelMounter
from graphdriver.drivers.overlay.mounter import Mounter, Overlay
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.drivers.overlay.probe import probe_overlayfs, trial
from graphdriver.errors import UnsupportedError
from graphdriver.linux import mount as calls
from graphdriver.linux.mountinfo import mount_points
from tests.support.command import Serving, graphdriver
from tests.support.filesystems import loop
from tests.support.overlays import mounted_overlay

Place = contextlib.AbstractContextManager[Path]


@contextlib.contextmanager
def on_overlayfs(directory: Path) -> Iterator[Path]:
    for name in ("lower", "upper"):
        (directory / name).mkdir()
    with mounted_overlay(directory, [directory / "lower"], directory / "upper") as merged:
        yield merged


@contextlib.contextmanager
def on_ramfs(directory: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "ramfs", "ramfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


UNFIT = {
    "on overlayfs": (
        on_overlayfs,
        r"{home} is on overlay, which cannot hold upper directories \(.*upperdir.*\);"
        " set the daemon's data-root to another filesystem, or use vfs",
    ),
    "without types of names": (
        lambda directory: loop("ext4-untyped", directory),
        r"{home} is on ext4 without file types in directories \(d_type\);"
        r" make it again \(mkfs.xfs -n ftype=1, mkfs.ext4 -O filetype\), or set the daemon's data-root",
    ),
    "without attributes": (
        on_ramfs,
        r"{home} is on ramfs, which cannot keep overlayfs's extended attributes"
        r" \(Operation not supported\); set the daemon's data-root to another filesystem",
    ),
}


@pytest.fixture(params=UNFIT)
def unfit(request: pytest.FixtureRequest, home: Path) -> Iterator[tuple[Path, str]]:
    """A directory on a filesystem that will not do, and what is to be said of it."""
    make, text = UNFIT[request.param]
    place: Callable[[Path], Place] = make
    with place(home) as directory:
        yield directory, text.replace("{home}", re.escape(str(directory)))


def test_an_unfit_place_is_refused_with_a_way_out(unfit: tuple[Path, str]) -> None:
    directory, text = unfit
    before = os.listdir(directory)
    for ask in (Overlay2Driver.probe, lambda home: Overlay2Driver().init(home, [], (), ())):
        with pytest.raises(UnsupportedError, match=f"overlay2: {text}"):
            ask(str(directory))
    assert os.listdir(directory) == before
    found = {one.name: one for one in choice.survey(str(directory))}
    assert found["overlay2"].cls is None
    assert re.search(text, found["overlay2"].reason)
    assert choice.choose(str(directory)).name == "fuse-overlayfs"


def test_the_command_line_tells_of_an_unfit_place_and_serves_another_driver_there(
    unfit: tuple[Path, str],
) -> None:
    directory, text = unfit
    root = str(directory / "not" / "yet")
    said = graphdriver("drivers", "--data-root", root).stdout.decode()
    assert re.search(f"^overlay2 +does not work: overlay2: {text}", said, re.MULTILINE)
    with tempfile.TemporaryDirectory(prefix="gd-", dir="/tmp") as own:
        one = Serving(Path(own), "--data-root", root).ready()
        try:
            assert one.out.read_text().startswith("serving fuse-overlayfs (unchanged files")
        finally:
            one.end()


def test_a_kernel_without_overlayfs_is_told_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in: a kernel cannot be had that has none."""
    monkeypatch.setattr(calls, "knows", lambda _: False)
    text = "this kernel has no overlay filesystem; load it .modprobe overlay., or use vfs"
    with pytest.raises(UnsupportedError, match=text):
        probe_overlayfs(str(home))
    assert choice.choose(str(home)).name == "fuse-overlayfs"


def test_a_fit_place_is_told_by_its_filesystem_and_left_as_it_was(place: Path) -> None:
    before = os.listdir(place)
    suitability = Overlay2Driver.probe(str(place))
    kind = suitability.reason.rpartition(" ")[2]
    assert suitability.reason == f"unchanged files are shared, on {kind}"
    assert kind in {one.fstype for one in mount_points()}
    assert os.listdir(place) == before
    assert choice.choose(str(place)).name == "overlay2"


@pytest.fixture
def data_root(home: Path) -> Iterator[Path]:
    """The directory of a daemon, in which a home is."""
    root = home / "data"
    (root / "driver").mkdir(parents=True)
    yield root
    while is_mounted_upon_itself(root):
        subprocess.run(["umount", "--lazy", root], check=True)


def mount_upon_itself(data_root: Path) -> None:
    """Do what dockerd does at its start: what was mounted below before is out of reach then."""
    subprocess.run(["mount", "--bind", data_root, data_root], check=True)
    subprocess.run(["mount", "--make-shared", data_root], check=True)


def is_mounted_upon_itself(data_root: Path) -> bool:
    return any(one.point == os.fsencode(data_root) for one in mount_points())


MOUNTERS: dict[str, Callable[[str], Mounter]] = {
    "overlay2": KernelMounter,
    "fuse-overlayfs": FuseMounter,
}
PROBES = {"overlay2": Overlay2Driver.probe, "fuse-overlayfs": FuseOverlayfsDriver.probe}


@pytest.mark.parametrize("driver", MOUNTERS)
def test_a_daemon_that_starts_during_a_probe_does_not_hide_what_that_mounts(
    data_root: Path, driver: str
) -> None:
    home = data_root / "driver"
    with trial(str(home)) as (directory, _):
        mounter = MOUNTERS[driver](directory)
        mounter.mount(Overlay(["lower"], "merged", "upper", "work"))
        mount_upon_itself(data_root)
        mounter.end()
    assert os.listdir(home) == []
    assert PROBES[driver](str(home)).rank > 0
    assert os.listdir(home) == []


_KILLED = """
import os, sys
from graphdriver.drivers.overlay.fuse_mounter import FuseMounter
from graphdriver.drivers.overlay.kernel_mounter import KernelMounter
from graphdriver.drivers.overlay.mounter import Mounter, Overlay
from graphdriver.drivers.overlay.probe import trial
with trial(sys.argv[2]) as (folder, _):
    mounter = FuseMounter(folder) if sys.argv[1] == "fuse-overlayfs" else KernelMounter(folder)
    mounter.mount(Overlay(["lower"], "merged", "upper", "work"))
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("next_one", MOUNTERS)
@pytest.mark.parametrize("killed", MOUNTERS)
def test_what_a_killed_probe_left_is_cleared_away(
    data_root: Path, killed: str, next_one: str
) -> None:
    home = data_root / "driver"
    done = subprocess.run([sys.executable, "-c", _KILLED, killed, str(home)])
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(home) == [".overlay-probe"]
    assert mounts_of_a_probe(home)
    mount_upon_itself(data_root)
    PROBES[next_one](str(home))
    assert os.listdir(home) == []
    assert mounts_of_a_probe(home) == []


def mounts_of_a_probe(home: Path) -> list[bytes]:
    """Return where something of it is mounted: below the home, or where it or a mounter shows it."""
    shown = DirectoryAlias(str(home / ".overlay-probe")).path
    above = [os.fsencode(one) + b"/" for one in (home, shown, DirectoryAlias(shown).path)]
    return [one.point for one in mount_points() if (one.point + b"/").startswith(tuple(above))]


def test_probes_of_one_place_do_not_disturb_each_other(home: Path) -> None:
    found: list[str] = []

    def probe() -> None:
        found.extend(probe_overlayfs(str(home)) for _ in range(20))

    threads = [threading.Thread(target=probe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["tmpfs"] * 80
    assert os.listdir(home) == []
