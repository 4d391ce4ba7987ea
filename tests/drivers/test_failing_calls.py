"""Whatever fails in the middle of a method, the next ones work, and state, index and disk agree."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graphdriver import Driver
from graphdriver.linux.mountinfo import mount_points
from tests.drivers.every import store_of, taken_up
from tests.drivers.faults import Faults
from tests.drivers.layers import read_diff, recorded
from tests.support import inspection
from tests.support.long import LONG, times
from tests.support.two_layers import TAR_A, TAR_B

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]

ERRORS = (errno.ENOSPC, errno.EIO, errno.EMFILE, 0, errno.EINTR)

Act = Callable[[Driver], object]


def apply(driver: Driver) -> None:
    driver.apply_diff("fresh", "a", io.BytesIO(TAR_B))


def init(driver: Driver) -> None:
    driver.init(store_of(driver).home, (), (), ())


METHODS: dict[str, Act] = {
    "init": init,
    "create": lambda driver: driver.create("new", "b", "", {}),
    "create the first child": lambda driver: driver.create("new", "fresh", "", {}),
    "create upon nothing": lambda driver: driver.create_read_write("new", "", "", {}),
    "get": lambda driver: driver.get("d", ""),
    "get again": lambda driver: driver.get("c", ""),
    "put": lambda driver: driver.put("c"),
    "put for the last time": lambda driver: driver.put("held"),
    "remove": lambda driver: driver.remove("d"),
    "remove what is mounted": lambda driver: driver.remove("c"),
    "remove what stands on nothing": lambda driver: driver.remove("alone"),
    "remove what is not there": lambda driver: driver.remove("nothing"),
    "apply_diff": apply,
    "diff": lambda driver: read_diff(driver, "d", "b"),
    "diff against another": lambda driver: read_diff(driver, "d", "a"),
    "changes": lambda driver: driver.changes("d", "b"),
    "diff_size": lambda driver: driver.diff_size("d", "b"),
    "exists": lambda driver: driver.exists("d"),
    "status": lambda driver: driver.status(),
    "get_metadata": lambda driver: driver.get_metadata("d"),
    "cleanup": lambda driver: driver.cleanup(),
}
CHANGING = [
    "create the first child",
    *(name for name in METHODS if name.startswith(("get", "put", "remove"))),
]
"""Of these each call fails in the gate too; of the others, which read or write many files, some do."""

APART = {"erofs": (4, 25), "fuse-overlayfs": (11, 11)}
"""How far apart the calls are that fail in the gate, of the changing methods and of the others. By
default 1 and 11; erofs does much as overlay2 does, and fuse-overlayfs takes a process a mount."""

SILENT = (
    "exists",
    "get",
    "get again",
    "put",
    "put for the last time",
    "status",
    "get_metadata",
    "cleanup",
)
"""These may need nothing that can fail."""

LAYERS = {"a": "", "b": "a", "c": "b", "d": "b", "held": "b", "fresh": "a", "alone": ""}


@pytest.fixture(scope="module")
def above(quick: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gd-", dir=quick) as directory:
        yield Path(directory)


class Scene:
    """A home with some layers, of which a method is called once while something fails."""

    def __init__(self, name: str, above: Path) -> None:
        self._name = name
        self.home = Path(tempfile.mkdtemp(dir=above))
        self.driver: Any = taken_up(name, self.home)
        self.driver.create("a", "", "", {})
        self.driver.apply_diff("a", "", io.BytesIO(TAR_A))
        for id, parent in LAYERS.items():
            if id != "a":
                self.driver.create(id, parent, "", {})
        for id in ("d", "alone"):
            Path(self.driver.get(id, ""), "new").write_text("new")
            self.driver.put(id)
        for id in ("c", "c", "held"):
            self.driver.get(id, "")
        store_of(self.driver).settle()

    def agree(self) -> None:
        """See that what the driver says, what it remembers and what is on disk are the same."""
        there = inspection.layers(self.home)
        for id in {*LAYERS, "new"}:
            assert self.driver.exists(id) == (id in there), id
        if hasattr(self.driver, "_layers"):
            layers = self.driver._layers
            layers._parents.first_child("")  # reads what could not be read at the start
            assert layers._parents._parents == {id: layers._layout.parent_of(id) for id in there}
            counted = inspection.counts(self.home)
            assert set(counted) <= there
            for id in there:
                for child in there:
                    if layers._layout.parent_of(child) == id:
                        assert layers._layout.is_committed(id), id
        assert len(os.listdir(self.home / ".staging")) == 0

    def end(self) -> None:
        """Remove all layers, and see that nothing is left, then or after a restart."""
        self.driver.cleanup()
        for id in ("new", "c", "d", "held", "fresh", "b", "alone", "a"):
            self.driver.remove(id)
        store_of(self.driver).settle()
        again = taken_up(self._name, self.home)
        store_of(again).settle()
        again.cleanup()
        left = [file.relative_to(self.home) for file in self.home.rglob("*")]
        kept = (".reserve", ".probed", ".staging", ".trash", "l")
        assert not [one for one in left if one.parts[0] not in kept]
        assert not [one for one in left if one.parts[0] in kept[2:] and len(one.parts) > 1]
        above = os.fsencode(self.home) + b"/"
        assert not [one.point for one in mount_points() if one.point.startswith(above)]
        assert not inspection.counts(self.home)


def play(
    name: str, above: Path, act: Act, faults: Faults, at: int, error: int, failures: list[str]
) -> bool:
    """Let one call of a method fail; tell whether it came to that, and add what was wrong then."""
    scene = Scene(name, above)
    tree = recorded(scene.driver, "b")
    committed = scene.home / "fresh/committed"
    had_child = committed.exists()
    before = descriptors()
    with faults.armed(at, error):
        with contextlib.suppress(Exception):
            act(scene.driver)
        store_of(scene.driver).settle()
    reached = faults.seen >= at
    try:
        assert descriptors() == before, "descriptors are left open"
        scene.agree()
        assert recorded(scene.driver, "b") == tree
        if not scene.driver.exists("new"):
            assert committed.exists() == had_child or not hasattr(scene.driver, "_layers")
        if act is apply:  # it has the framework's mark now
            scene.driver.remove("fresh")
        else:
            repeat(scene.driver, act)
        scene.agree()
        scene.end()
    except Exception as wrong:
        how = errno.errorcode.get(error, "no memory")
        failures.append(
            f"call {at} fails ({how}), {faults.failed}: {type(wrong).__name__}: {wrong}"
        )
    return reached


def repeat(driver: Driver, act: Act) -> None:
    """Do it again, as a daemon would."""
    if driver.exists("new"):
        driver.remove("new")
    act(driver)


def descriptors() -> set[str]:
    return {
        os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)
    }


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}") and "/proc/" not in os.readlink(
        f"/proc/self/fd/{fd}"
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_failure_at_any_call_harms_nothing_else(
    name: str, above: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    faults, failures = Faults(), list[str]()
    with faults.installed():
        at = 0
        reached = True
        while reached:
            at += times(gate=APART.get(name, (1, 11))[method not in CHANGING], long=1)
            # In the gate each call fails in one way, and calls beside each other in different ones.
            for error in ERRORS if LONG else (ERRORS[at % len(ERRORS)],):
                reached = play(name, above, METHODS[method], faults, at, error, failures)
    assert not failures, "\n".join(failures)
    assert faults.seen or method in SILENT
    assert threading.active_count() < 10
