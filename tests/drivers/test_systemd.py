"""Under a real systemd, a service's processes are killed with it: but not what mounts are served by."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Client
from tests.drivers.booted import SERVICE, Booted, booted
from tests.support.traces import forget, socket_in
from tests.support.waiting import wait_until

PROGRAM = "fuse-overlayfs"


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="gd-"))
    yield path
    forget(socket_in(path))
    shutil.rmtree(path)


@pytest.fixture
def machine(directory: Path) -> Iterator[Booted]:
    serve = [
        sys.executable,
        "-m",
        "graphdriver",
        "serve",
        PROGRAM,
        f"--socket={socket_in(directory)}",
    ]
    with booted(directory, serve) as machine:
        wait_until(Path(socket_in(directory)).exists)
        yield machine


@pytest.mark.root
def test_helpers_are_in_scopes_of_their_own_and_outlive_the_plugins_service(
    machine: Booted, directory: Path
) -> None:
    home = directory / "home"
    with Client(socket_in(directory)) as client:
        client.init(str(home), [], [], [])
        client.create("lower", "", "", {})
        client.create_read_write("upper", "lower", "", {})
        mounted = machine.path(Path(client.get("upper", "")))
    (mounted / "file").write_text("written")
    assert machine.groups()[PROGRAM].endswith(".scope")

    machine.systemctl("stop", SERVICE)
    assert "python3" not in machine.groups()
    assert (mounted / "file").read_text() == "written"

    machine.systemctl("start", SERVICE)
    wait_until(Path(socket_in(directory)).exists)
    with Client(socket_in(directory)) as client:
        client.put("upper")
        assert not (mounted / "file").exists()
        wait_until(lambda: PROGRAM not in machine.groups())
        client.cleanup()
