"""A driver that cannot work is refused before it says that it serves, as far as that is known then."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Client
from graphdriver.linux.mountinfo import fstype_of
from tests.support.command import Serving, environment, graphdriver
from tests.support.traces import socket_in

BAD_OPTIONS = [
    ("vfs", "size=10G", "vfs cannot limit the size of a layer"),
    ("vfs", "nope=1", "vfs: unknown option 'nope'"),
    ("btrfs", "nope=1", "btrfs: unknown option 'nope'"),
    ("btrfs", "size=much", "'much' is not a size"),
    ("overlay2", "nope=1", "overlay2: unknown option 'nope'"),
    ("overlay2", "size=much", "'much' is not a size"),
    ("overlay2", "volatile=perhaps", "volatile=perhaps"),
    ("overlay2", "mountopt=metacopy=on", "metacopy"),
    ("erofs", "nope=1", "erofs: unknown option 'nope'"),
    ("fuse-overlayfs", "volatile=true", "fuse-overlayfs: unknown option 'volatile'"),
    ("fuse-overlayfs", "size=much", "'much' is not a size"),
    ("plain_folders:PlainFolders", "sync=perhaps", "sync is 'layer' (the default) or 'none'"),
    ("plain_folders:PlainFolders", "adopt=perhaps", "adopt is 'no' (the default) or 'yes'"),
]

WITHOUT_THE_PROGRAM = """
mount --bind /dev/null "$(command -v fuse-overlayfs)" && exec "$@"
"""

pytestmark = pytest.mark.root


def refused(folder: Path, *words: str) -> str:
    """Return what ``graphdriver serve`` says when it refuses to serve."""
    done = graphdriver("serve", *words, "--socket", socket_in(folder))
    assert done.returncode == 7, done.stderr
    assert done.stdout == b""
    assert not os.path.exists(socket_in(folder))
    return done.stderr.decode()


@pytest.mark.parametrize(("driver", "option", "said"), BAD_OPTIONS)
def test_an_option_that_no_home_would_take(
    folder: Path, driver: str, option: str, said: str
) -> None:
    assert said in refused(folder, driver, "--opt", option)


def test_a_program_that_is_missing(folder: Path) -> None:
    serve = [sys.executable, "-m", "graphdriver", "serve", "fuse-overlayfs"]
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "sh",
            "-c",
            WITHOUT_THE_PROGRAM,
            "-",
            *serve,
            "--socket",
            socket_in(folder),
        ],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )
    assert done.returncode == 7
    assert "the program fuse-overlayfs is not installed; install it" in done.stderr


def test_a_check_of_somebody_elses_driver(folder: Path) -> None:
    (folder / "checks.py").write_text(
        "from graphdriver.errors import UnsupportedError\n"
        "from plain_folders import PlainFolders\n"
        "class Checks(PlainFolders):\n"
        "    @classmethod\n"
        "    def check(cls, options):\n"
        "        raise UnsupportedError(f'no {options[0]} here')\n"
        "class Broken(PlainFolders):\n"
        "    @classmethod\n"
        "    def check(cls, options): return 1 // 0\n"
    )
    for name, said in (
        ("Checks", "no colour=blue here"),
        ("Broken", "the driver's check failed: ZeroDivisionError"),
    ):
        words = ["serve", f"checks:{name}", "--opt=colour=blue", "--socket", socket_in(folder)]
        done = graphdriver(*words, path=str(folder))
        assert done.returncode in (1, 7)
        assert said in done.stderr.decode()


@pytest.fixture
def ramfs(folder: Path) -> Iterator[Path]:
    """A filesystem that holds neither subvolumes nor overlays."""
    place = folder / "ramfs"
    place.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "none", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("driver", ["btrfs", "overlay2", "erofs"])
def test_a_data_root_that_was_said_and_does_not_do(folder: Path, ramfs: Path, driver: str) -> None:
    assert f"{driver}: {ramfs} is on ramfs" in refused(folder, driver, "--data-root", str(ramfs))


def test_the_default_data_root_is_a_warning_alone(folder: Path) -> None:
    place = "/var/lib/docker"
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    fd = os.open(place, os.O_RDONLY)
    kind = fstype_of(fd)
    os.close(fd)
    assert kind != "btrfs"
    one = Serving(folder, "btrfs").ready()
    try:
        said = (
            f"btrfs does not work on a daemon's default data root /var/lib/docker: btrfs: {place}"
        )
        assert f"WARNING {said} is on {kind}" in one.log.read_text()
        # The daemon names the home: its Init is refused with the whole text, in the log too.
        why = f"init: btrfs: {folder}/home is on {kind}; set the daemon's data-root to a btrfs"
        assert why in one.call("Init", f"Home={folder}/home").stderr.decode()
        assert f"WARNING {why}" in one.log.read_text()
    finally:
        assert one.end() == 0


def test_the_home_of_a_daemon_that_lives(folder: Path) -> None:
    one = Serving(folder, "vfs").ready()
    with Client(one.socket, timeout=20) as daemon:  # this process, which lives
        daemon.init(f"{folder}/home", [], [], [])
    one.process.kill()
    one.process.wait()
    said = refused(folder, "plain_folders:PlainFolders")
    assert f"cannot serve {folder}/home for process {os.getpid()}, which lives: the home" in said
    assert "was made by driver 'vfs', format 1, for docker" in said
    again = Serving(folder, "vfs").ready()
    assert again.end() == 0


def test_the_home_of_a_daemon_that_is_gone_keeps_nobody_from_serving(folder: Path) -> None:
    one = Serving(folder, "vfs").ready()
    daemon = (
        f"from graphdriver import Client; Client({one.socket!r}).init('{folder}/home', [], [], [])"
    )
    subprocess.run([sys.executable, "-c", daemon], check=True, env=environment(), timeout=60)
    one.process.kill()
    one.process.wait()
    again = Serving(folder, "plain_folders:PlainFolders").ready()
    try:
        assert "the home of the last Init cannot be opened again" in again.log.read_text()
        assert again.call("Init", f"Home={folder}/other").returncode == 0
    finally:
        again.end()
