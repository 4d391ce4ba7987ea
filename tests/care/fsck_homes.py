"""Homes for the tests of fsck: made by a driver in this process, as a plugin would."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from graphdriver.driver import Driver
from graphdriver.drivers.loading import make
from graphdriver.naive import NaiveDiffDriver
from graphdriver.serving.served_home import ServedHome


@contextlib.contextmanager
def serving(name: str, home: Path, engine: str = "docker") -> Iterator[ServedHome]:
    """Serve a home with a driver for the length of a ``with`` block; unmount all at its end."""
    served = ServedHome(make(name), engine)
    with contextlib.closing(served):
        served.claim(str(home))
        served.init_driver()
        yield served
        served.driver.cleanup()


@contextlib.contextmanager
def driving(name: str, home: Path) -> Iterator[Driver]:
    """Do the same, and give the driver, with the naive differ if it needs that."""
    with serving(name, home) as served:
        driver = served.driver
        yield driver if isinstance(driver, Driver) else NaiveDiffDriver(driver)
