"""The mounts that overlay2 names for others: what the kernel makes of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.abilities import Mount
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from tests.drivers.conftest import TakeUp
from tests.drivers.test_overlay_mounts import mounts_in, pair
from tests.support.ground import tool

PARAMETER = Path("/sys/module/overlay/parameters/metacopy")
REMEMBERED = "trusted.overlay.metacopy"


@pytest.fixture
def metacopy_by_default() -> Iterator[None]:
    """Switch metacopy on for every mount of this machine that does not say otherwise."""
    before = PARAMETER.read_text()
    PARAMETER.write_text("Y")
    try:
        yield
    finally:
        PARAMETER.write_text(before)


def shown(mount: Mount, place: Path, *options: str) -> None:
    words = ["-t", mount.type, mount.source, "-o", ",".join((*mount.options, *options)), str(place)]
    subprocess.run([tool("mount"), *words], check=True)


@pytest.mark.root
@pytest.mark.alone
@pytest.mark.timeout(1800)  # it waits for the tests that run
def test_metacopy_is_off_in_named_mounts_though_the_machine_switches_it_on(
    home: Path, take_up: TakeUp, metacopy_by_default: None
) -> None:
    driver = take_up()
    assert isinstance(driver, Overlay2Driver)
    upper = pair(driver)
    diff = home / upper / "diff"
    (named,) = driver.mounts(upper, read_only=False)
    place = home / "place"
    place.mkdir()
    plain = Mount(named.type, named.source, tuple(o for o in named.options if "dir=/" in o))
    for mount, copies_data in ((plain, False), (named, True)):
        shown(mount, place)
        try:
            (place / "file").chmod(0o600)
            assert (REMEMBERED not in os.listxattr(diff / "file")) is copies_data
            (line,) = [one for one in mounts_in(home) if one.point == os.fsencode(place)]
            assert (b"metacopy=off" in line.options.split(b",")) is copies_data
        finally:
            subprocess.run([tool("umount"), str(place)], check=True)
        (diff / "file").unlink()
    place.rmdir()
