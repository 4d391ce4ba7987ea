"""Docker in Docker: which directories of a container can hold the homes of erofs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import graphdriver
from tests.e2e.engines import Engines
from tests.support.daemon import Daemon
from tests.support.filesystems import loop

DRIVERS = 'for home; do "$0" -m graphdriver drivers --data-root "$home"; done'

_SOURCE = Path(graphdriver.__file__).parents[1]
_NEEDED = ("/usr", "/lib", "/lib64", sys.base_prefix, sys.prefix, _SOURCE)
PYTHON = [f"--volume={path}:{path}:ro" for path in _NEEDED if os.path.isdir(path)]
"""This Python and this package, in the container as they are here."""

TRUSTED = [
    "--cap-add=SYS_ADMIN",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
]
"""Instead of ``--privileged``: not every machine that tests may give all capabilities."""


@pytest.fixture(scope="module")
def outer(engines: Engines, small: Path) -> Iterator[Daemon]:
    """A daemon on Docker's own overlay2, with an image."""
    with engines.on_driver("overlay2") as daemon:
        daemon.docker("load", "--input", str(small))
        yield daemon


def told_in(daemon: Daemon, *homes: str, options: list[str]) -> list[str]:
    """Return what ``graphdriver drivers`` says in a container of erofs in some homes."""
    command = ["sh", "-c", DRIVERS, sys.executable, *homes]
    lines = daemon.run("small", *command, options=[*PYTHON, "--tmpfs=/run", *options]).splitlines()
    return [line.partition(" ")[2].strip() for line in lines if line.startswith("erofs ")]


@pytest.mark.reaches()
def test_a_trusted_container_can_hold_homes_on_volumes_on_a_disk(
    outer: Daemon, tmp_path: Path
) -> None:
    with loop("xfs", tmp_path) as disk:
        options = [*TRUSTED, f"--volume={disk}:/volume", "--tmpfs=/memory"]
        homes = "/data", "/volume", "/memory"
        in_root, on_volume, in_memory = told_in(outer, *homes, options=options)
        assert os.listdir(disk) == []
    assert on_volume.startswith("works: ")
    refused = "does not work: erofs: "
    assert in_root.startswith(f"{refused}/data is on overlay, which cannot hold upper directories")
    assert in_memory.startswith(f"{refused}/memory is on tmpfs, and images cannot be mounted there")
    assert "loop: a loop device is needed, and /dev/loop-control does not exist" in in_memory
    assert "docker run --privileged -v /dev:/dev" in in_memory


@pytest.mark.reaches()
def test_an_ordinary_container_is_told_that_it_may_not_mount(outer: Daemon, tmp_path: Path) -> None:
    (told,) = told_in(outer, "/volume", options=[f"--volume={tmp_path}:/volume"])
    reason = "this process may not mount (Operation not permitted)"
    assert told.startswith(f"does not work: {reason}; use vfs; or")
    assert os.listdir(tmp_path) == []
