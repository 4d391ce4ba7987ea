"""A home after a kill at any instruction, and on a full disk."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.driver import IDMap
from graphdriver.errors import InUseError
from graphdriver.home import Home

MAPS = (IDMap(0, 100_000, 65_536),)


def test_a_home_lets_the_group_of_containers_through_and_nobody_else(tmp_path: Path) -> None:
    home = tmp_path / "above" / "home"
    Home(str(home), MAPS).close()
    found = home.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o710, 0, 100_000)
    assert stat.S_IMODE(home.parent.stat().st_mode) == 0o711


def test_a_home_that_a_kill_left_without_its_group_gets_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(0o710)
    Home(str(home), MAPS).close()
    assert home.stat().st_gid == 100_000


def test_a_mark_outlives_its_process_and_goes_with_its_layer(tmp_path: Path) -> None:
    home = Home(str(tmp_path / "home"))
    home.mark("there")
    home.mark("gone")  # killed between the driver's Remove and the mark's
    home.close()
    again = Home(str(tmp_path / "home"))
    assert again.is_unfinished("there")
    again.unmark_all_but("there".__eq__)
    assert again.is_unfinished("there")
    assert not again.is_unfinished("gone")
    again.close()
    assert os.listdir(tmp_path / "home/.graphdriver/applying") == ["there"]


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 64 KiB."""
    path = tmp_path / "tiny"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tiny", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.root
def test_a_full_disk_keeps_nobody_from_a_home_that_is_there(tiny: Path) -> None:
    home = Home(str(tiny / "home"))
    home.claim("docker", "any", 1)
    home.bind(exact_diffs=False)
    home.close()
    with pytest.raises(OSError, match="No space"), open(tiny / "rest", "wb", buffering=0) as rest:
        while True:
            rest.write(b"x" * 512)
    again = Home(str(tiny / "home"))
    again.claim("docker", "any", 1)
    again.bind(exact_diffs=False)
    with pytest.raises(InUseError, match=f"is served by process {os.getpid()}, and this is"):
        Home(str(tiny / "home"))
    again.close()
