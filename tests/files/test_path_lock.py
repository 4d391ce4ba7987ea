"""Locks that keep processes of ours apart, and that nobody else can take."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from graphdriver import UnixListener
from graphdriver.docker.address.spec_files import SpecFile
from graphdriver.drivers.btrfs.driver import BtrfsDriver
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.errors import InUseError, UnsupportedError
from graphdriver.files.path_lock import PathLock, locked
from tests.support.filesystems import loop

HOLDS = """
import sys
from graphdriver.files.path_lock import PathLock
lock = PathLock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""

LOCKS_AS_NOBODY = """
import fcntl, os, sys
os.setgroups([]), os.setgid(65534), os.setuid(65534)
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def running(program: str, path: Path) -> subprocess.Popen[bytes]:
    """Start a program that holds something until it is ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that everybody may read."""
    with tempfile.TemporaryDirectory(prefix="gd-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


def listen(directory: Path) -> None:
    UnixListener(f"{directory}/p.sock").close()


def write_spec(directory: Path) -> None:
    SpecFile(directory.name, "tcp://127.0.0.1:2", directory=str(directory)).close()


def probe_overlays(directory: Path) -> None:
    Overlay2Driver.probe(str(directory))


def probe_btrfs(directory: Path) -> None:
    with loop("btrfs", directory) as home:
        os.chmod(home, 0o755)
        with running(LOCKS_AS_NOBODY, home):
            BtrfsDriver.probe(str(home))


@pytest.mark.root
@pytest.mark.parametrize("use", [listen, write_spec, probe_overlays, probe_btrfs])
def test_a_user_who_locks_a_directory_holds_up_nobody(
    open_to_all: Path, use: Callable[[Path], None]
) -> None:
    with running(LOCKS_AS_NOBODY, open_to_all):
        use(open_to_all)


def test_one_process_at_a_time_and_a_wait_that_ends_names_the_other(tmp_path: Path) -> None:
    with running(HOLDS, tmp_path) as other:
        with pytest.raises(
            InUseError, match=rf"{tmp_path} is in use by process {other.pid}; wait until"
        ):
            PathLock(str(tmp_path), timeout=0)
        with pytest.raises(InUseError, match=r"and has been for 1 s"):
            PathLock(str(tmp_path / "." / ".." / tmp_path.name), timeout=0.6)
        other.send_signal(signal.SIGKILL)
    with locked(str(tmp_path)), pytest.raises(InUseError):
        PathLock(str(tmp_path), timeout=0)
    PathLock(str(tmp_path), timeout=0).release()


@pytest.mark.root
def test_nobody_else_can_open_a_lock_and_none_is_left(tmp_path: Path) -> None:
    locks = Path("/run/graphdriver/locks")
    mine = f"{tmp_path}".replace("/", "%2F")
    with locked(str(tmp_path)):
        assert stat.S_IMODE((locks / mine).stat().st_mode) == 0o600
        assert stat.S_IMODE(locks.stat().st_mode) == 0o700
    assert not (locks / mine).exists()


@pytest.mark.root
def test_locks_in_a_directory_of_another_user_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphdriver.files.path_lock.RUNTIME", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    os.chown(tmp_path / "run", 1000, -1)
    with pytest.raises(UnsupportedError, match=r"run belongs to user 1000, .*chown 0 "):
        PathLock(str(tmp_path))


def test_as_many_processes_as_there_are_come_after_each_other(tmp_path: Path) -> None:
    counts = tmp_path / "count"
    counts.write_text("0")
    program = """
import sys
from pathlib import Path
from graphdriver.files.path_lock import locked
counts = Path(sys.argv[1])
for _ in range(50):
    with locked(str(counts.parent)):
        counts.write_text(str(int(counts.read_text()) + 1))
"""
    processes = [subprocess.Popen([sys.executable, "-c", program, counts]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert counts.read_text() == "200"


def test_a_listener_closes_where_its_directory_is_gone(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with closing(UnixListener(f"{tmp_path}/d/p.sock")):
        (tmp_path / "d").rename(tmp_path / "e")


def test_a_spec_file_closes_without_a_lock(tmp_path: Path) -> None:
    made = SpecFile("plugin", "tcp://127.0.0.1:2", directory=str(tmp_path))
    with locked(str(tmp_path)):
        made.close()
    assert os.listdir(tmp_path) == ["plugin.spec"]
    made.close()
    assert os.listdir(tmp_path) == []
