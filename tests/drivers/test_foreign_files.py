"""In a home that held files before, a file is not a layer, and none of its name harms it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Driver
from graphdriver.conformance.plugin import tars
from graphdriver.errors import LayerNotFoundError, UnsupportedError
from tests.drivers.every import EVERY, serving
from tests.drivers.layers import apply

FOREIGN = ("file", "fifo", "dangling")

pytestmark = pytest.mark.root


@pytest.fixture(params=EVERY)
def driver(request: pytest.FixtureRequest, home: Path) -> Iterator[Driver]:
    if request.param == "btrfs":
        home = Path(tempfile.mkdtemp(dir=request.getfixturevalue("btrfs")))
    (home / "file").write_text("theirs")
    os.mkfifo(home / "fifo")
    (home / "dangling").symlink_to("nowhere")
    with serving(request.param, home) as driver:
        apply(driver, "base", "", tars.tar(tars.file(b"f")))
        yield driver
        assert (home / "file").read_text() == "theirs"
        assert (home / "fifo").is_fifo()
        assert (home / "dangling").is_symlink()
        assert not os.listdir(home / ".staging")
        driver.remove("base")


@pytest.mark.parametrize("id", FOREIGN)
@pytest.mark.parametrize("parent", ["", "base"])
def test_a_layer_of_its_name_is_refused(driver: Driver, id: str, parent: str) -> None:
    for create in (driver.create, driver.create_read_write):
        with pytest.raises(UnsupportedError, match=rf"/{id} is in the way: it is not a directory"):
            create(id, parent, "", {})


@pytest.mark.parametrize("id", FOREIGN)
def test_it_is_not_a_layer(driver: Driver, id: str) -> None:
    assert not driver.exists(id)
    driver.remove(id)
    with pytest.raises(LayerNotFoundError):
        driver.get(id, "")
