"""Homes for the tests of fsck: made by a driver in this process, as a plugin would."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from graphdriver.drivers.loading import make
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
