"""What each driver raises for layers that are there already, or are not."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver import Driver
from graphdriver.errors import LayerExistsError, LayerNotFoundError
from tests.drivers.test_conformance import DRIVERS, by_itself

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    on_btrfs = request.param == "btrfs"
    above: Path = request.getfixturevalue("btrfs") if on_btrfs else Path("/dev/shm")
    with by_itself(request.param, above) as subject:
        yield subject.driver


def test_an_id_is_taken_once(driver: Driver) -> None:
    driver.create("taken", "", "", {})
    for create in (driver.create, driver.create_read_write):
        with pytest.raises(LayerExistsError, match="exists"):
            create("taken", "", "", {})


def test_a_parent_must_be_there(driver: Driver) -> None:
    with pytest.raises(LayerNotFoundError, match="parent nobody"):
        driver.create("child", "nobody", "", {})


@pytest.mark.parametrize(
    "call",
    [
        lambda driver: driver.get("a", ""),
        lambda driver: driver.put("a"),
        lambda driver: driver.get_metadata("a"),
        lambda driver: driver.diff("a", ""),
        lambda driver: driver.changes("a", ""),
        lambda driver: driver.diff_size("a", ""),
        lambda driver: driver.apply_diff("a", "", io.BytesIO(bytes(1024))),
    ],
    ids=["get", "put", "get_metadata", "diff", "changes", "diff_size", "apply_diff"],
)
def test_a_layer_that_is_not_there_is_not_found(
    driver: Driver, call: Callable[[Driver], object]
) -> None:
    with pytest.raises(LayerNotFoundError, match=" not "):
        call(driver)
    assert not driver.exists("a")


@pytest.mark.parametrize("method", ["diff", "changes", "diff_size"])
def test_a_comparison_with_a_layer_that_is_not_there_is_refused(
    driver: Driver, method: str
) -> None:
    if not driver.exists("there"):
        driver.create("there", "", "", {})
    with pytest.raises(LayerNotFoundError):
        getattr(driver, method)("there", "nobody")
