"""Who keeps a mount busy: processes with something open on it, and mount namespaces that see it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from graphdriver.linux.mountinfo import mount_points

_MOST = 5


def holders(point: str) -> list[str]:
    """Return in words who uses the mount at a path; at most a few, and only as far as /proc tells."""
    device = os.stat(point).st_dev
    mine = os.readlink("/proc/self/ns/mnt")
    found: list[str] = []
    seen = {mine}
    for pid in _processes():
        with contextlib.suppress(OSError):
            use = _use(pid, device)
            if use:
                found.append(f"process {pid} ({process_name(pid)}) has {use} there")
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace not in seen:
                seen.add(namespace)
                if any(one.device == device for one in mount_points(pid)):
                    found.append(
                        f"{namespace} of process {pid} ({process_name(pid)}) has it mounted"
                    )
        if len(found) >= _MOST:
            break
    return found


def _processes() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            yield int(name)


def _use(pid: int, device: int) -> str:
    for link in ("root", "cwd", "exe"):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}/{link}").st_dev == device:
                return f"its {link}"
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}/fd/{descriptor}").st_dev == device:
                return f"descriptor {descriptor}"
    return ""


def process_name(pid: int) -> str:
    """Return the name of a process's program; empty if the process has ended."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
