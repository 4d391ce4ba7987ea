"""A snapshotter killed with -9 at each call by which it removes a snapshot, or starts, on a full disk.

There SQLite finds no room, and the reserve beside the database is given up. Whatever is left of it, the
next start, on the full disk as well, knows the snapshots, and removes them all. The gate takes the
first and the last call of each name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash import strace
from tests.crash.keeper import Keeper, KilledError
from tests.crash.test_kills import NotReachedError, chosen, until_reached
from tests.support.full import Filler, small_tmpfs
from tests.support.ground import require

VIEWS = 3
FEWEST = 12
"""Fewer calls than this cannot be all."""


@dataclass
class Scene:
    """A root on a filesystem without a free block or inode, and whoever keeps it."""

    root: Path
    log: Path
    keeper: Keeper

    def start(self, *first: str) -> None:
        self.keeper.__exit__()
        self.keeper = Keeper("vfs", self.root, log=self.log, first=first)
        self.keeper.__enter__()

    def keys(self) -> set[str]:
        return {key for key, *_ in self.keeper.ask("all")}


@contextlib.contextmanager
def scene() -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="gdk-", dir="/dev/shm") as above:
        folder = Path(above)
        with small_tmpfs(folder) as disk:
            root, log = disk / "root", folder / "log"
            one = Scene(root, log, Keeper("vfs", root, log=log).__enter__())
            try:
                one.keeper.ask("prepare", "a", "", {})
                one.keeper.ask("commit", "A", "a", {})
                for number in range(VIEWS):
                    one.keeper.ask("view", f"view{number}", "A", {})
                filler = Filler(disk)
                filler.blocks()
                filler.inodes()
                one.start()  # as after a kill: with a log that has room for nothing more
                filler.blocks()
                filler.inodes()
                yield one
            finally:
                one.keeper.__exit__()


ALL = {"A", *(f"view{number}" for number in range(VIEWS))}


def traced_removal() -> list[strace.Call]:
    with scene() as one:
        threads = one.keeper.threads()
        with strace.traced(one.keeper.pid, one.log) as trace:
            one.keeper.ask("remove", "view0")
        calls = trace.calls[threads[0]]
        assert any(call.name == "unlink" and ".reserve/" in call.line for call in calls)
        return calls


def killed_in_removal(call: strace.Call) -> None:
    with scene() as one:
        with strace.killing_at(call, one.keeper.threads()[:1]), pytest.raises(KilledError):
            one.keeper.ask("remove", "view0")
            raise NotReachedError("this point was not reached")
        one.start()
        assert one.keys() in (ALL, ALL - {"view0"})
        emptied(one)


def traced_start() -> list[strace.Call]:
    with scene() as one, tempfile.TemporaryDirectory() as folder:
        one.start(*strace.start_traced(folder))
        pid = one.keeper.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        one.keeper.__exit__()
        trace = strace.Trace()
        trace.read(folder, one.log)
        one.start()
        return [call for call in trace.calls[min(trace.calls)] if str(one.root) in call.line]


def killed_in_start(call: strace.Call) -> None:
    with scene() as one:
        with pytest.raises(KilledError):
            one.start(*strace.killed_at(call))
            raise NotReachedError("this point was not reached")
        one.start()
        assert one.keys() == ALL
        emptied(one)


def emptied(one: Scene) -> None:
    """Remove what is left, and see that nothing is."""
    for key in sorted(one.keys() - {"A"}):
        one.keeper.ask("remove", key)
    one.keeper.ask("remove", "A")
    one.keeper.ask("cleanup")
    assert not one.keys()
    assert not [name for name in os.listdir(one.root) if name.isdecimal()]


@pytest.mark.root
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("trace", "kill"),
    [(traced_removal, killed_in_removal), (traced_start, killed_in_start)],
    ids=["in a removal", "in a start"],
)
def test_a_kill_on_a_full_disk_leaves_snapshots_that_can_be_removed(
    trace: Callable[[], list[strace.Call]], kill: Callable[[strace.Call], None]
) -> None:
    require(os.geteuid() == 0, "mounts need root")
    calls = trace()
    print(f"{len(calls)} calls change something", flush=True)
    assert len(calls) >= FEWEST
    todo, failures = iter(chosen(calls, lambda call: call.name)), []
    taking = threading.Lock()

    def work() -> None:
        while True:
            with taking:
                call = next(todo, None)
            if call is None:
                return
            try:
                until_reached(lambda: kill(call))  # noqa: B023
            except Exception as error:
                failures.append(f"{call}\n  {type(error).__name__}: {error}")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, "\n\n".join(failures)
