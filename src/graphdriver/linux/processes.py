"""Other processes in /proc: those that keep a mount busy or lock a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container, Iterable, Iterator

from graphdriver.linux.mountinfo import mount_points

_MOST = 5


def mount_holders(point: str) -> list[str]:
    """Return in words a few users of the mount at a path: processes, and namespaces that see it."""
    device = os.stat(point).st_dev
    return device_users([device])[device]


def device_users(devices: Iterable[int]) -> dict[int, list[str]]:
    """Return in words a few users of each mounted device: processes, and namespaces that see it.

    Args:
        devices: as in `graphdriver.linux.mountinfo.MountPoint.device`.
    """
    mine = os.readlink("/proc/self/ns/mnt")
    found: dict[int, list[str]] = {device: [] for device in devices}
    seen = {mine}
    for pid in processes():
        wanted = {device for device, users in found.items() if len(users) < _MOST}
        if not wanted:
            break
        with contextlib.suppress(OSError):
            for device, use in _uses(pid, wanted).items():
                found[device].append(f"process {pid} ({process_name(pid)}) has {use} there")
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace not in seen:
                seen.add(namespace)
                for device in {one.device for one in mount_points(pid)} & wanted:
                    found[device].append(
                        f"{namespace} of process {pid} ({process_name(pid)}) has it mounted"
                    )
    return found


def processes() -> Iterator[int]:
    """Yield the numbers of all processes; each may have ended since."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            yield int(name)


def _uses(pid: int, devices: Container[int]) -> dict[int, str]:
    """Return one use of each device by a process."""
    found: dict[int, str] = {}
    for link in ("root", "cwd", "exe"):
        with contextlib.suppress(OSError):
            device = os.stat(f"/proc/{pid}/{link}").st_dev
            if device in devices:
                found.setdefault(device, f"its {link}")
    descriptors: list[str] = []
    with contextlib.suppress(OSError):
        descriptors = os.listdir(f"/proc/{pid}/fd")
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            device = os.stat(f"/proc/{pid}/fd/{descriptor}").st_dev
            if device in devices:
                found.setdefault(device, f"descriptor {descriptor}")
    return found


def process_name(pid: int) -> str:
    """Return the name of a process's program; empty if the process has ended."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def lock_holders(paths: Iterable[str]) -> list[str]:
    """Return in words which other processes hold locks on some files, as `lock_holding_processes`."""
    return [f"process {pid} ({process_name(pid)})" for pid in lock_holding_processes(paths)]


def lock_holding_processes(paths: Iterable[str]) -> list[int]:
    """Return which other processes hold locks on some files; only writers, if there are any.

    /proc/locks lists no processes of other PID namespaces.
    """
    files = set()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path)
            files.add((status.st_dev, status.st_ino))
    inodes = {inode for _, inode in files}
    others = [one for one in _locks() if one[1] not in (-1, os.getpid()) and one[2] in inodes]
    held = [(kind, pid) for kind, pid, _ in others if _has_open(pid, files)]
    kinds = {kind for kind, _ in held}
    return sorted({pid for kind, pid in held if kind == "WRITE" or "WRITE" not in kinds})


def _locks() -> Iterator[tuple[str, int, int]]:
    """Yield kind, process and inode of each lock that is held; an arrow marks one that waits."""
    with open("/proc/locks", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if fields[1] != "->":
                yield fields[3], int(fields[4]), int(fields[5].rpartition(":")[2])


def has_open(pid: int, path: str) -> bool:
    """Tell whether a process has a file open, as far as it is visible here."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    return _has_open(pid, {(status.st_dev, status.st_ino)})


def _has_open(pid: int, files: set[tuple[int, int]]) -> bool:
    """Tell whether a process has one of the files open: /proc/locks names no usable device on btrfs."""
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{pid}/fd/{descriptor}")
                if (status.st_dev, status.st_ino) in files:
                    return True
    return False
