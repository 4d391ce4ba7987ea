"""What tests of drivers do with layers again and again."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

from graphdriver import Driver
from graphdriver.conformance.kit.tree import Facts, record
from graphdriver.driver import mounted


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
