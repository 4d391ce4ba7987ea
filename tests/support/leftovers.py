"""The leftovers of a daemon, found by the name of its directory: mounts and processes.

A dockerd that stops in good order leaves neither. One that was killed leaves its containers, their
shims and their mounts; they are found here by the directory's path, which no other test uses.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from graphdriver.drivers.overlay.aliases import ALIASES
from graphdriver.linux import filesystem
from graphdriver.linux.mountinfo import mount_points

PR_SET_CHILD_SUBREAPER = 36


def mounts_below(folder: Path) -> list[str]:
    """Return the mount points below ``folder``, the innermost first."""
    points = [os.fsdecode(one.point) for one in mount_points()]
    return [point for point in points if point.startswith(f"{folder}/")][::-1]


def layers_mounted(home: Path) -> list[str]:
    """Return the mount points of layers in a home; those of images stay for some seconds."""
    return [point for point in mounts_below(home) if not point.endswith("/applied")]


def shown_elsewhere(folder: Path) -> list[str]:
    """Return the mount points of drivers for directories below ``folder``."""
    within = os.fsencode(f"/{folder.name}/")
    points = [os.fsdecode(one.point) for one in mount_points() if within in one.root]
    return [point for point in points if point.startswith(f"{ALIASES}/")]


def processes_of(folder: Path) -> dict[int, str]:
    """Return the processes with a path below ``folder`` in their command line."""
    needle = f"{folder}/".encode()
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            line = Path("/proc", name, "cmdline").read_bytes()
            if needle in line:
                found[int(name)] = line.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def containerd_of(folder: Path) -> list[int]:
    """Return the containerd that a dockerd below ``folder`` started; it dies when its parent does."""
    return [
        pid
        for pid, line in processes_of(folder).items()
        if os.path.basename(line.split(" ")[0]) == "containerd"
    ]


def bury_containerd(exec_root: Path) -> None:
    """Wait for the end of the containerd of a dockerd that has ended; it must be adopted by us."""
    with contextlib.suppress(FileNotFoundError, ChildProcessError):
        os.waitpid(int((exec_root / "containerd/containerd.pid").read_text()), 0)


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Let children's children become ours when their parent dies, so that we can wait for them.

    A new dockerd asks whether the containerd of the old one is alive and takes a dead one that
    nobody has waited for to be so; not every process 1 is quick at waiting.
    """
    _set_subreaper(True)
    try:
        yield
    finally:
        _set_subreaper(False)


def _set_subreaper(on: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(on), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def wait_until_gone(folder: Path, seconds: float = 60) -> dict[int, str]:
    """Wait for the processes of ``folder`` to end, and return those that did not."""
    deadline = time.monotonic() + seconds
    while (left := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def end_starting(place: Path | str) -> list[int]:
    """End the containers that were left while they started, given a directory of their runtime's.

    Such a process waits at a FIFO there for its start, which nobody asks for any more. Its mounts keep
    disks and loop devices in use.

    Returns:
        The processes that were ended.
    """
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            is_init = Path("/proc", name, "cmdline").read_bytes() == b"runc\0init\0"
            if is_init and any(one.startswith(f"{place}/") for one in _open_files(name)):
                with open(os.pidfd_open(int(name)), "rb") as process:
                    signal.pidfd_send_signal(process.fileno(), signal.SIGKILL)
                    select.select([process], [], [], 10)
                found.append(int(name))
    return found


def _open_files(process: str) -> list[str]:
    return [os.readlink(one) for one in Path("/proc", process, "fd").iterdir()]


def sweep(folder: Path) -> list[str]:
    """End what still runs below ``folder``, unmount what is mounted there, and tell what it was."""
    found = []
    for pid, line in wait_until_gone(folder).items():
        found.append(f"process {pid}: {line}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until_gone(folder)
    for point in mounts_below(folder) + shown_elsewhere(folder):
        found.append(f"mount {point}")
        subprocess.run(["umount", "-l", point], check=True)
    return found


def destroy_subvolumes(folder: Path) -> None:
    """Destroy the subvolumes below a directory on btrfs: each is a device of its own there."""
    fd = os.open(folder, os.O_RDONLY)
    is_btrfs = filesystem.magic_of(fd) == filesystem.BTRFS
    os.close(fd)
    if is_btrfs:
        found = ["find", str(folder), "-depth", "-inum", "256", "-type", "d"]
        destroy = ["btrfs", "subvolume", "delete", "{}", "+"]
        subprocess.run([*found, "-exec", *destroy], check=True, stdout=subprocess.DEVNULL)
