"""A machine whose power is cut at random moments, while layers are made, filled and removed.

The plugin works on a disk (`disks`) from which, at random moments, what it holds at that instant is
taken; that is mounted and served anew. Every layer whose ApplyDiff had been answered before must be
there with all its bytes. Others are there as they were created, or with all their bytes, or marked, or
not at all.

Two things make it harder than most power cuts are. Somebody else writes to the same disk and calls
fsync(2) all the time, so that the journal is committed at any moment, without the files' content. And
the time just before and after each syncfs(2) of the plugin is stretched, so that some of the moments
fall into it.
"""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.kit.tree import record
from graphdriver.errors import RemoteError
from tests.crash import strace
from tests.crash.disks import Disk, disk
from tests.crash.served import Served
from tests.crash.story import Tree
from tests.crash.writer import Promises, Writer
from tests.support import inspection
from tests.support.ground import require
from tests.support.long import LONG, times

CUTS = times(gate=6, long=20)
CUTS_WITHOUT_SYNCS = 4
ROUNDS_WITHOUT_SYNCS = 10
"""How often it is tried to lose something: on a busy machine the kernel writes all back at once."""

STRETCH = 0.05
"""Seconds before and after each syncfs(2)."""

LONGEST = 0.3
"""Seconds from an answer to the next cut."""


ON = [
    *(("ext4", "vfs"), ("ext4", "overlay2"), ("ext4", "fuse-overlayfs")),
    *(("xfs", "vfs"), ("xfs", "overlay2"), ("btrfs", "btrfs")),
    *(("ext4", "erofs"), ("xfs", "erofs")),
]
"""Which filesystem, and which driver on it."""

ON_WITHOUT_SYNCS = ON if LONG else [*dict(reversed(ON)).items()]
"""Something can be lost on each filesystem, so a disk here shows what a power cut does."""


@pytest.fixture
def ground(request: pytest.FixtureRequest) -> Iterator[Disk]:
    require(os.geteuid() == 0, "mounts need root")
    with (
        tempfile.TemporaryDirectory(prefix="gdp-", dir="/dev/shm") as folder,
        disk(request.param, Path(folder)) as made,
    ):
        yield made


@pytest.mark.root
@pytest.mark.parametrize(("ground", "driver"), ON, indirect=["ground"])
def test_what_was_reported_applied_outlives_a_power_cut(ground: Disk, driver: str) -> None:
    assert losses_in(ground, driver, CUTS, "home") == []


@pytest.mark.root
@pytest.mark.parametrize(("ground", "driver"), ON_WITHOUT_SYNCS, indirect=["ground"])
def test_without_syncs_the_same_power_cuts_lose_layers(ground: Disk, driver: str) -> None:
    for number in range(ROUNDS_WITHOUT_SYNCS):
        cuts = CUTS_WITHOUT_SYNCS
        losses = losses_in(ground, driver, cuts, f"home{number}", "--opt", "sync=none")
        # What was not answered yet may be half on the disk too, and nobody was promised it.
        if any("was reported applied" in loss for loss in losses):
            return
    pytest.fail("nothing was lost that was reported applied")


def losses_in(ground: Disk, driver: str, number: int, home: str, *options: str) -> list[str]:
    """Cut the power a number of times, and return what was lost against the promises."""
    chance = random.Random(driver)
    cuts: list[tuple[Path, Promises, Promises]] = []
    with plugin(ground, driver, *options) as served:
        served.client.init(str(ground.place / home), [], [], [])
        with (
            strace.stretching("syncfs", served.threads(), STRETCH),
            committing(ground.place),
            Writer(served.client, seed=len(driver)) as writer,
        ):
            while len(cuts) < number:
                writer.wait_for_another()
                time.sleep(chance.uniform(0, LONGEST))
                before = writer.promised()
                taken = ground.cut()
                cuts.append((taken, before, writer.promised()))
        served.client.cleanup()
    losses = []
    with plugin(ground, driver) as served:
        for taken, before, after in cuts:
            with ground.mounted(taken) as place:
                losses += [
                    f"{taken.name}: {loss}" for loss in look(served, place / home, before, after)
                ]
    return losses


def look(served: Served, home: Path, before: Promises, after: Promises) -> Iterator[str]:
    """Serve what a cut left, tell what is lost, and remove it all."""
    served.client.init(str(home), [], [], [])
    there, marked = inspection.layers(home), inspection.marked(home)
    assert there <= {*after.created}
    for id in after.created:
        problem = ""
        promised = id in before.applied and id not in after.removed
        if id not in there:
            problem = "is gone" if promised else ""
        elif id in marked:
            with pytest.raises(RemoteError, match="transfer did not finish"):
                served.client.get(id, "")
            problem = "is marked" if promised else ""
        else:
            problem = _wrong(served, id, promised, before, after)
        if problem and promised:
            yield f"{id} was reported applied, and {problem}"
        elif problem:
            yield f"{id} {problem}"
    for id in reversed(after.created):
        served.client.remove(id)
    served.client.init(str(home), [], [], [])  # the links of layers that lost theirs are swept
    assert not inspection.litter(home)
    assert not inspection.layers(home)
    assert not inspection.mounted(home)
    served.client.cleanup()  # fuse-overlayfs shows homes to its program until then
    served.let_go()


def _wrong(served: Served, id: str, promised: bool, before: Promises, after: Promises) -> str:
    """Tell what is wrong with a layer that looks whole."""
    try:
        root = served.client.get(id, "")
    except RemoteError as error:
        return "" if "was lost" in str(error) and not promised else str(error)
    try:
        found = record(root)
    finally:
        served.client.put(id)
    allowed = [after.filled[id]] if promised else [after.filled[id], after.created[id]]
    return "" if found in allowed else f"differs in {[_different(found, tree) for tree in allowed]}"


def _different(one: Tree, other: Tree) -> str:
    paths = [path for path in one.keys() | other.keys() if one.get(path) != other.get(path)]
    return f"{len(paths)} paths"


@contextlib.contextmanager
def plugin(ground: Disk, driver: str, *options: str) -> Iterator[Served]:
    """Serve a driver, for the length of a ``with`` block."""
    with (
        tempfile.TemporaryDirectory(prefix="gdp-", dir="/dev/shm") as folder,
        Served(Path(folder), driver, *options) as served,
    ):
        yield served


@contextlib.contextmanager
def committing(place: Path) -> Iterator[None]:
    """Commit the journal of a filesystem again and again."""
    stop = threading.Event()

    def work() -> None:
        with open(place / "somebody-elses", "wb", buffering=0) as file:
            while not stop.wait(0.02):
                file.write(b"x" * 100)
                os.fsync(file.fileno())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
