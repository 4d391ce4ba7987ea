"""How many calls to the kernel a container's layer takes: a container waits for each of them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from graphdriver.driver import Driver
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver

pytestmark = pytest.mark.root

NO_CALLS = {"fspath", "fsencode", "fsdecode"}  # functions of `posix` that stay in the process


@pytest.fixture
def driver(home: Path) -> Iterator[Driver]:
    driver = Overlay2Driver()
    driver.init(str(home), [], [], [])
    driver.create("base", "", "", {})
    yield driver
    driver.cleanup()


def kernel_calls(work: Callable[[], object]) -> Counter[str]:
    """Count the calls that Python's `posix` makes; those by ctypes, for mounts, are not among them."""
    found: Counter[str] = Counter()

    def note(frame: FrameType, event: str, function: object) -> None:
        if event == "c_call" and getattr(function, "__module__", "") == "posix":
            found[getattr(function, "__name__", "")] += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return Counter({name: count for name, count in found.items() if name not in NO_CALLS})


def test_a_containers_layer_takes_few_calls_to_the_kernel(driver: Driver) -> None:
    def cycle(id: str) -> dict[str, Counter[str]]:
        return {
            "create": kernel_calls(lambda: driver.create_read_write(id, "base", "", {})),
            "get": kernel_calls(lambda: driver.get(id, "")),
            "put": kernel_calls(lambda: driver.put(id)),
            "remove": kernel_calls(lambda: driver.remove(id)),
        }

    cycle("first")  # marks the parent
    found = cycle("second")
    most = {"create": 40, "get": 22, "put": 5, "remove": 22}
    assert {call: counts for call, counts in found.items() if counts.total() > most[call]} == {}
