"""Leftovers of layers and calls: none may remain."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from graphdriver.conformance.kit.case import Group, Need
from graphdriver.conformance.kit.expect import Mismatch, expect_soon
from graphdriver.conformance.plugin import tars, wire
from graphdriver.conformance.plugin.cases.reference_counts import mounts_below
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("leftovers", "what remains after all calls")

_ROUNDS: Final = 200
_UNREAD: Final = 30


def _used(home: str) -> int:
    """Return how many bytes a home takes; files that vanish meanwhile do not count."""
    total = 0
    pending = [home]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
    return total


@GROUP.case()
def disk_space_is_freed(kit: Kit) -> None:
    """The disk space of layers is free again soon after their Remove.

    Users run docker system prune when the disk is full, and look whether it helped.
    """
    before = _used(kit.subject.home)
    layers: list[str] = []
    for number in range(3):
        data = tars.tar(tars.file(b"big%d" % number, os.urandom(16 << 20)))
        layers.append(kit.applied(data, layers[-1] if layers else ""))
    for id in reversed(layers):
        kit.driver.remove(id)

    def look() -> str:
        more = _used(kit.subject.home) - before
        return f"{more >> 20} MiB more than before" if more > 4 << 20 else ""

    expect_soon("disk space used below the home", look, "no more than before", kit.patience)


@GROUP.case(Need.SOCKET)
def failed_layer_leaves_nothing(kit: Kit) -> None:
    """After the Remove of a layer whose transfer failed, its disk space is free again.

    A large image that fails to load is often tried again. With each try that leaves its files, the
    disk gets fuller, and no command frees it.
    """
    before = _used(kit.subject.home)
    data = tars.file(b"big", os.urandom(32 << 20)) + b"no header " * 52
    id = kit.layer()
    with kit.subject.wire() as daemon:
        answer = daemon.ask(wire.apply(id, data))
    if not answer.rejection:
        raise Mismatch("ApplyDiff of a damaged tar", "success", "an error")
    kit.driver.remove(id)

    def look() -> str:
        more = _used(kit.subject.home) - before
        return f"{more >> 20} MiB more than before" if more > 4 << 20 else ""

    expect_soon("disk space used below the home", look, "no more than before", kit.patience)


@GROUP.case()
def nothing_is_mounted(kit: Kit) -> None:
    """After layers were created, mounted, changed and removed, nothing is mounted below the home.

    A plugin runs for months. Each mount that remains makes every read of the mount table slower,
    until the kernel's limit is reached.
    """
    before = mounts_below(kit.subject.home)
    base = kit.layer(fill=lambda root: (root / "file").write_text("x"))
    for _ in range(5):
        id = kit.layer(base, lambda root: (root / "file").unlink())
        kit.diff(id, base)
        kit.driver.changes(id, base)
        kit.driver.diff_size(id, base)
        kit.driver.diff_size(id, "")
        kit.driver.remove(id)
    kit.driver.remove(base)

    def look() -> str:
        more = set(mounts_below(kit.subject.home)) - set(before)
        return ", ".join(sorted(more))

    expect_soon("mounts below the home", look, "no more than before", kit.patience)


@GROUP.case(Need.SOCKET, required=False)
def unread_diffs_leave_no_process(kit: Kit) -> None:
    """Processes and open files of a Diff are gone soon after its reader.

    A plugin that starts a tar program for each Diff must end it when the reader is gone. Otherwise
    each cancelled build leaves a process.
    """
    if not (pid := kit.subject.pid()):
        return
    id = kit.applied(tars.tar(tars.file(b"big", bytes(8 << 20))))
    kit.diff(id)
    before = _processes(pid), _descriptors(pid)
    for _ in range(_UNREAD):
        with kit.subject.wire() as daemon:
            daemon.send(wire.call("Diff", ID=id)).take(5000)

    def look() -> str:
        processes, descriptors = _processes(pid) - before[0], _descriptors(pid) - before[1]
        if processes < _UNREAD // 2 and descriptors < _UNREAD // 2:
            return ""
        return f"{processes} more processes and {descriptors} more open files"

    what = f"leftovers of {_UNREAD} Diffs without a reader"
    expect_soon(what, look, "no more than before", kit.patience)


@GROUP.case(Need.SOCKET, required=False)
def descriptors_do_not_grow(kit: Kit) -> None:
    """The number of the plugin's open files does not grow with the calls.

    A process has 1,024 descriptors by default. A plugin that loses one with each call stops serving
    after some days.
    """
    if not (pid := kit.subject.pid()):
        return
    base = kit.layer(fill=lambda root: (root / "file").write_text("x"))

    def round_of_calls() -> None:
        id = kit.layer(base)
        with kit.shown(id) as root:
            (root / "new").touch()
        kit.diff(id, base)
        with kit.subject.wire() as daemon:  # a reader that leaves in the middle
            daemon.send(wire.call("Diff", ID=base)).take(10)
        kit.driver.remove(id)

    for _ in range(20):
        round_of_calls()
    before = _descriptors(pid)
    for _ in range(_ROUNDS):
        round_of_calls()

    def look() -> str:
        more = _descriptors(pid) - before
        return f"{more} more after {_ROUNDS} rounds" if more > 20 else ""

    expect_soon("the plugin's open files", look, "no more than before", kit.patience)


def _processes(pid: int) -> int:
    """Count the children of a process, and theirs."""
    count = 0
    pending = [str(pid)]
    while pending:
        for task in Path("/proc", pending.pop(), "task").glob("*/children"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                children = task.read_text().split()
                count += len(children)
                pending += children
    return count


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
