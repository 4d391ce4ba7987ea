"""Each driver lists its options once: error texts and docs/drivers.md say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graphdriver.drivers.btrfs.driver import BtrfsDriver
from graphdriver.drivers.erofs.driver import ErofsDriver
from graphdriver.drivers.options import read_options
from graphdriver.drivers.overlay.fuse_overlayfs import FuseOverlayfsDriver
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import UnsupportedError

DRIVERS = (BtrfsDriver, ErofsDriver, FuseOverlayfsDriver, Overlay2Driver, VfsDriver)
DOCS = Path(__file__).parents[2] / "docs/drivers.md"


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_documentation_lists_a_drivers_options(driver: type[Overlay2Driver]) -> None:
    (section,) = re.findall(
        rf"^## {driver.driver_name}\n(.*?)(?=^## |\Z)", DOCS.read_text(), re.MULTILINE | re.DOTALL
    )
    documented = re.findall(r"^\| `([^`=]+=[^`]*)` \|", section, re.MULTILINE)
    assert sorted(documented) == sorted(option.example for option in driver.options)


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_unknown_option_is_refused_with_the_list_of_those_that_there_are(
    driver: type[Overlay2Driver],
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        read_options([("colour", "red")], driver.options, driver.driver_name)
    text = str(caught.value)
    assert text.startswith(f"{driver.driver_name}: unknown option 'colour'; it takes ")
    for option in driver.options:
        assert f"{option.example} ({option.help})" in text
        given = [(f"{driver.driver_name}.{option.name.upper()}", "1"), (option.name, "2")]
        assert read_options(given, driver.options, driver.driver_name) == {option.name: "2"}
