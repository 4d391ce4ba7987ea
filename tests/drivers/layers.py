"""What tests of drivers do with layers again and again."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from graphdriver import Driver
from graphdriver.conformance.kit.tree import Facts, record
from graphdriver.driver import mounted
from graphdriver.drivers.overlay.driver import OverlayDriver

D = TypeVar("D", bound=OverlayDriver)


@contextlib.contextmanager
def taking_up(kind: type[D], home: Path) -> Iterator[Callable[..., D]]:
    """Give a maker of drivers that have taken up a home, with options; later ones are restarts."""
    made: list[D] = []
    usual = home

    def take_up(*options: str, home: Path = usual) -> D:
        driver = kind()
        driver.init(str(home), options, (), ())
        made.append(driver)
        return driver

    yield take_up
    for driver in made:
        driver.cleanup()
        driver._layers._store.settle()


def layer(driver: Driver, id: str, parent: str, fill: Callable[[Path], object]) -> None:
    """Make a layer by writing into its directory."""
    driver.create(id, parent, "", {})
    with mounted(driver, id) as root:
        fill(Path(root))


def apply(driver: Driver, id: str, parent: str, data: bytes) -> int:
    """Create a layer and fill it with a tar."""
    driver.create(id, parent, "", {})
    return driver.apply_diff(id, parent, io.BytesIO(data))


def read_diff(driver: Driver, id: str, parent: str = "") -> bytes:
    """Return a whole diff."""
    stream = driver.diff(id, parent)
    with contextlib.closing(stream):
        return b"".join(iter(lambda: stream.read(100_000), b""))


def recorded(driver: Driver, id: str) -> dict[bytes, Facts]:
    """Record what a layer shows."""
    with mounted(driver, id) as root:
        return record(root)
