"""What processes may use up: descriptors, threads, memory, mounts; and what a plugin may do."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from graphdriver.care.findings import Finding, Severity
from graphdriver.linux.capabilities import named
from graphdriver.linux.mountinfo import mount_points
from graphdriver.linux.processes import process_name
from graphdriver.linux.resources import MOUNT_MAX
from graphdriver.serving.privileges import LAYERS

ENOUGH_FILES: Final = 4096
"""A daemon keeps some descriptors for each container, and a Diff one for each layer below."""

_UNLIMITED: Final = 1 << 60
"""The kernel writes numbers near 2^63 where there is no limit."""

_CGROUPS: Final = "/sys/fs/cgroup"


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A process and its limits; None: unknown, or not limited.

    Attributes:
        who: the process in words.
        files: how many descriptors are open.
        files_most: how many it may open.
        tasks: how many threads its control group has.
        tasks_most: how many it may have.
        memory: bytes that its control group uses, caches too.
        memory_most: how many it may use.
        missing: the capabilities that it needs and does not have; empty for a daemon.
    """

    who: str
    files: int | None = None
    files_most: int | None = None
    tasks: int | None = None
    tasks_most: int | None = None
    memory: int | None = None
    memory_most: int | None = None
    missing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LimitFacts:
    """What was found.

    Attributes:
        processes: the plugin and the daemon, as far as they are known.
        mounts: how many mounts there are in this mount namespace.
        mounts_most: how many there may be.
        files: how many files are open on this machine.
        files_most: how many may be.
    """

    processes: tuple[ProcessFacts, ...] = ()
    mounts: int | None = None
    mounts_most: int | None = None
    files: int | None = None
    files_most: int | None = None


def read_limits(processes: Sequence[tuple[str, int]]) -> LimitFacts:
    """Read the facts of the machine, and of some processes.

    Args:
        processes: for each its role, ``plugin`` or ``daemon``, and its number.
    """
    known = tuple(
        read_process(f"{role} {pid} ({process_name(pid)})", pid, is_plugin=role == "plugin")
        for role, pid in processes
    )
    mounts = None
    with contextlib.suppress(OSError, ValueError, IndexError):
        mounts = sum(1 for _ in mount_points())
    used = _text("/proc/sys/fs/file-nr").split()
    return LimitFacts(
        known,
        mounts,
        _number(_text(MOUNT_MAX)),
        _number(used[0]) if used else None,
        _number(used[-1]) if used else None,
    )


def read_process(who: str, pid: int, *, is_plugin: bool = False) -> ProcessFacts:
    """Read the facts of a process, which may end meanwhile."""
    files = None
    with contextlib.suppress(OSError):
        files = len(os.listdir(f"/proc/{pid}/fd"))
    most = re.search(r"^Max open files +(\d+)", _text(f"/proc/{pid}/limits"), re.MULTILINE)
    held = re.search(r"^CapEff:\s*([0-9a-f]{1,32})$", _text(f"/proc/{pid}/status"), re.MULTILINE)
    group = _group_of(pid)
    return ProcessFacts(
        who,
        files,
        _number(most[1]) if most else None,
        _number(_text(f"{group}/pids.current")),
        _number(_text(f"{group}/pids.max")),
        _number(_text(f"{group}/memory.current")),
        _number(_text(f"{group}/memory.max")),
        LAYERS - named(int(held[1], 16)) if held and is_plugin else frozenset(),
    )


def _group_of(pid: int) -> str:
    """Return the directory of a process's control group of version 2; one that is not there if none."""
    found = re.search(r"^0::(/.*)$", _text(f"/proc/{pid}/cgroup"), re.MULTILINE)
    return f"{_CGROUPS}{found[1]}" if found and ".." not in found[1] else "/nonexistent"


def _text(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read(1 << 16)
    return ""


def _number(text: str) -> int | None:
    """Return a number in a file of the kernel's; None for ``max``, and if it is none."""
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        return None
    return int(text) if int(text) < _UNLIMITED else None


def check_limits(facts: LimitFacts) -> Iterator[Finding]:
    """Yield what the facts mean."""
    shown = (_used(facts.mounts, facts.mounts_most, "mounts"),
            _used(facts.files, facts.files_most, "open files"))  # fmt: skip
    yield Finding(
        Severity.NOTE, "limits", "this machine", ", ".join(filter(None, shown)) or "unknown"
    )
    for used, most, what, name in (
        (facts.mounts, facts.mounts_most, "mounts", "fs.mount-max"),
        (facts.files, facts.files_most, "open files", "fs.file-max"),
    ):
        if _is_scarce(used, most):
            yield Finding(
                Severity.WARNING,
                "machine-limit",
                "this machine",
                f"{used} of {most} {what} are used",
                f"sysctl -w {name}={2 * (most or 0)}",
            )
    for process in facts.processes:
        yield from _check_process(process)


def _check_process(process: ProcessFacts) -> Iterator[Finding]:
    shown = (
        _used(process.files, process.files_most, "open files"),
        _used(process.tasks, process.tasks_most, "threads"),
        _used(process.memory, process.memory_most, "bytes of memory"),
    )
    yield Finding(Severity.NOTE, "limits", process.who, ", ".join(filter(None, shown)) or "unknown")
    if process.files_most is not None and process.files_most < ENOUGH_FILES:
        yield Finding(
            Severity.WARNING,
            "few-files",
            process.who,
            f"it may open only {process.files_most} files: builds with many layers will fail",
            "set LimitNOFILE=65536 in its unit",
        )
    for used, most, what, setting in (
        (process.files, process.files_most, "files that it may open", "LimitNOFILE="),
        (process.tasks, process.tasks_most, "threads of its control group", "TasksMax=infinity"),
    ):
        if _is_scarce(used, most):
            yield Finding(
                Severity.WARNING,
                "process-limit",
                process.who,
                f"{used} of {most} {what} are used",
                f"raise {setting} in its unit",
            )
    # The kernel frees caches at the limit, so a group that is almost full is normal.
    if process.memory_most is not None and process.memory_most < 256 << 20:
        yield Finding(
            Severity.WARNING,
            "little-memory",
            process.who,
            f"its control group may use only {process.memory_most >> 20} MiB: a layer with many files"
            " may not be packed",
            "raise MemoryMax= in its unit",
        )
    if process.missing:
        yield Finding(
            Severity.WARNING,
            "missing-capabilities",
            process.who,
            f"it does not have {', '.join(sorted(process.missing))}: some layers cannot be kept",
            "run it as root, without CapabilityBoundingSet= in its unit",
        )


def _used(used: int | None, most: int | None, what: str) -> str:
    if used is None:
        return ""
    return (
        f"{used:,} of {most:,} {what}" if most is not None else f"{used:,} {what}, without a limit"
    )


def _is_scarce(used: int | None, most: int | None) -> bool:
    return used is not None and most is not None and used * 10 > most * 9
