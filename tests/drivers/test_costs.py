"""No tree that a container or an image makes costs more than in proportion to what is on disk.

Paths are what is not in proportion: that of a directory is as long as all names above it together, so
a deep tree's paths take the square of its names. `tests.drivers.costs` does the work.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.layer.tree.remove import remove_tree
from tests.drivers.costs import DRIVERS, SHAPES
from tests.support.ground import require
from tests.support.long import times

pytestmark = pytest.mark.root

CALLS = ["Changes", "DiffSize", "Diff", "ApplyDiff", "Create", "usage", "Remove"]
SIZES = {"deep": (100, times(400, 2500))}
OTHER_SIZES = (500, times(2000, 20_000))


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def directory(request: pytest.FixtureRequest, driver: str) -> Iterator[Path]:
    above = request.getfixturevalue("btrfs") if driver == "btrfs" else Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=above, prefix="gd-"))
    yield path
    fd = os.open(above, os.O_RDONLY | os.O_DIRECTORY)
    try:
        remove_tree(fd, os.fsencode(path.name))  # however deep the tree is that a failure left
    finally:
        os.close(fd)


@pytest.mark.parametrize("shape", SHAPES)
def test_calls_cost_in_proportion_to_what_is_on_disk(
    driver: str, directory: Path, shape: str
) -> None:
    # Before, the garbage collector crashes while a profile function is set (CPython, issue 101975).
    require(sys.version_info >= (3, 11, 3), "needs Python 3.11.3")
    sizes = SIZES.get(shape, OTHER_SIZES)
    program = [sys.executable, "-m", "tests.drivers.costs", driver, shape]
    done = subprocess.run(
        [*program, ",".join(map(str, sizes)), str(directory)],
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for line in done.stdout.splitlines():
        call, to_do, calls = line.split()
        found[call].append((int(to_do), int(calls)))
    assert list(found) == CALLS
    too_much = {call: told for call, told in found.items() if not is_in_proportion(*told)}
    assert too_much == {}, done.stderr[-3000:]


def is_in_proportion(small: tuple[int, int], large: tuple[int, int]) -> bool:
    """Tell whether the larger of two trees took no more for each piece of the work, and no memory."""
    if small[1] < 0 or large[1] < 0:
        return False  # it was refused its memory
    return large[1] <= 1.2 * small[1] * large[0] / small[0] + 500
