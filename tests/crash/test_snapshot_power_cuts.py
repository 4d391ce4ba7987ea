"""A machine whose power is cut at random moments, while snapshots are written and committed.

What a disk (`disks`) holds at such a moment is mounted and served anew. A snapshot whose Commit had
been answered must be there with all its bytes; and so must each one that calls itself committed, for
containerd would take it for the layer that it was to be.
"""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.containerd import _messages_pb2 as pb
from tests.crash.disks import Disk
from tests.crash.endless import Endless
from tests.crash.keeper import TIMEOUT, Keeper
from tests.crash.test_power_cuts import (
    CUTS_WITHOUT_SYNCS,
    ON,
    ON_WITHOUT_SYNCS,
    ROUNDS_WITHOUT_SYNCS,
    committing,
    ground,
)
from tests.support.long import LONG, times
from tests.support.mounting import mounted

__all__ = ["ground"]

_LATER = ("erofs", "overlay2", "fuse-overlayfs") if LONG else ("erofs",)
ON_LATER = [pair for pair in ON if pair[1] in _LATER]
"""Those whose driver can give a layer its parent with Commit; erofs writes the most then."""

CUTS = times(gate=6, long=20)
LONGEST = 0.2
"""Seconds from an answer to the next cut."""

FILES = 12
LARGEST = 40_000


@pytest.mark.root
@pytest.mark.parametrize(("ground", "driver"), ON, indirect=["ground"])
def test_what_was_committed_outlives_a_power_cut(ground: Disk, driver: str) -> None:
    assert losses_in(ground, driver, CUTS, "root", sync=True) == []


@pytest.mark.root
@pytest.mark.parametrize(("ground", "driver"), ON_WITHOUT_SYNCS, indirect=["ground"])
def test_without_a_sync_the_same_power_cuts_lose_snapshots(ground: Disk, driver: str) -> None:
    assert any(
        losses_in(ground, driver, CUTS_WITHOUT_SYNCS, f"root{number}", sync=False)
        for number in range(ROUNDS_WITHOUT_SYNCS)
    )


@pytest.mark.root
@pytest.mark.parametrize(("ground", "driver"), ON_LATER, indirect=["ground"])
def test_so_does_a_snapshot_that_got_its_parent_with_commit(ground: Disk, driver: str) -> None:
    assert losses_in(ground, driver, CUTS, "root", sync=True, of=LaterWriter) == []


@pytest.mark.root
@pytest.mark.long
@pytest.mark.parametrize(("ground", "driver"), ON_LATER, indirect=["ground"])
def test_without_a_sync_such_snapshots_are_lost(ground: Disk, driver: str) -> None:
    assert any(
        losses_in(ground, driver, CUTS_WITHOUT_SYNCS, f"root{number}", sync=False, of=LaterWriter)
        for number in range(ROUNDS_WITHOUT_SYNCS)
    )


class Writer(Endless):
    """Writes and commits one snapshot upon the other, in a thread, for a ``with`` block."""

    def __init__(self, keeper: Keeper, seed: str) -> None:
        super().__init__()
        self._keeper = keeper
        self._random = random.Random(seed)
        self.contents: dict[str, dict[str, bytes]] = {}
        self.committed: list[str] = []

    def wait_for_another(self) -> None:
        """Wait until one more was committed."""
        before = len(self.committed)
        deadline = time.monotonic() + TIMEOUT
        while len(self.committed) == before:
            self.raise_failure()
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def do_once(self) -> None:
        """Write one more, and commit it."""
        name = f"snapshot-{len(self.contents)}"
        parent = self.committed[-1] if len(self.committed) % 3 else ""
        files = {
            f"{name}-{number}": self._random.randbytes(self._random.randrange(LARGEST))
            for number in range(FILES)
        }
        self.write(name, parent, files)
        self.committed.append(name)

    def write(self, name: str, parent: str, files: dict[str, bytes]) -> None:
        """Write files into a new snapshot on a parent, and commit it."""
        _, source, options = self._keeper.ask("prepare", "active", parent, {})
        uppers = [one.removeprefix("upperdir=") for one in options if one.startswith("upperdir=")]
        # As containerd's differ does: an overlay that is unmounted would sync what lies below it.
        root = Path(*uppers) if uppers else Path(source)
        for file, data in files.items():
            (root / file).write_bytes(data)
        self.contents[name] = {**self.contents.get(parent, {}), **files}
        self._keeper.ask("commit", name, "active", {})


class LaterWriter(Writer):
    """Fills each snapshot before its parent is known.

    Commit makes a hard link to a file of the parent, and finds the directory of another file there.
    """

    def write(self, name: str, parent: str, files: dict[str, bytes]) -> None:
        below = self.contents.get(parent, {})
        entries = [tars.file(file.encode(), data) for file, data in files.items()]
        shown = {**below, **files, f"d/{name}": b"in d"}
        entries += [] if parent else [tars.directory(b"d", 0o700)]
        entries.append(tars.file(f"d/{name}".encode(), b"in d"))
        if parent:
            *_, gone, target = sorted(file for file in below if "/" not in file)
            entries.append(tars.hard_link(f"{name}-link".encode(), target.encode()))
            entries.append(tars.whiteout(f".wh.{gone}".encode()))
            shown[f"{name}-link"] = below[target]
            del shown[gone]
        tar = base64.b64encode(tars.tar(*entries)).decode()
        self._keeper.ask("prepare", "active", "", {})
        self._keeper.ask("fill", "active", tar)
        self.contents[name] = shown
        self._keeper.ask("commit", name, "active", {}, parent)


def told(answer: list[object]) -> pb.Mount:
    kind, source, options = answer
    return pb.Mount(type=kind, source=source, options=options)  # type: ignore[arg-type]


def losses_in(
    ground: Disk, driver: str, number: int, root: str, *, sync: bool, of: type[Writer] = Writer
) -> list[str]:
    """Cut the power a number of times, and return what was lost of what a writer wrote."""
    chance = random.Random(driver)
    place = ground.place.with_name("shown")
    cuts: list[tuple[Path, list[str]]] = []
    with (
        Keeper(driver, ground.place / root, sync=sync) as keeper,
        committing(ground.place),
        of(keeper, driver) as writer,
    ):
        while len(cuts) < number:
            writer.wait_for_another()
            time.sleep(chance.uniform(0, LONGEST))
            committed = list(writer.committed)
            cuts.append((ground.cut(), committed))
    losses = []
    for taken, committed in cuts:
        with ground.mounted(taken) as left, Keeper(driver, left / root) as keeper:
            found = look(keeper, place, committed, writer.contents)
            losses += [f"{taken.name}: {loss}" for loss in found]
    return losses


def look(
    keeper: Keeper, place: Path, committed: list[str], contents: dict[str, dict[str, bytes]]
) -> Iterator[str]:
    """Tell what is lost in what a cut left; all of it can be removed."""
    kinds = {key: kind for key, kind, *_ in keeper.ask("all")}
    yield from (f"{name} is gone" for name in committed if kinds.get(name) != "COMMITTED")
    for name in [key for key, kind in kinds.items() if kind == "COMMITTED"]:
        try:
            view = keeper.ask("view", "look", name, {})
        except RuntimeError as error:
            yield f"{name} is committed, and {error}"
            continue
        with mounted([told(view)], place) as root:
            files = (path for path in root.rglob("*") if path.is_file())
            found = {str(path.relative_to(root)): path.read_bytes() for path in files}
            wrong = {file for file in contents[name] if found.get(file) != contents[name][file]}
            if wrong or len(found) != len(contents[name]):
                yield f"{name} is committed, and {len(wrong)} files are not as they were written"
        keeper.ask("remove", "look")
    for key in reversed(kinds):
        keeper.ask("remove", key)
    assert keeper.ask("all") == []
