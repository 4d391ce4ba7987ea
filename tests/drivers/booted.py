"""A real systemd, running in namespaces of its own as if it ran the machine, with one service.

It sees this machine's files but has a /run and control groups of its own (cgroups(7), namespaces), so
nothing of this machine is started or stopped by it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from graphdriver.linux.mountinfo import mount_points
from tests.support.ground import require
from tests.support.waiting import wait_until

SYSTEMD = "/lib/systemd/systemd"
SERVICE = "plugin.service"

_BOOT = """
set -e
echo $$ > "$1/cgroup.procs"
exec unshare --mount --pid --ipc --uts --cgroup --fork --kill-child sh -ec '
mount -t tmpfs none /run
mount -t proc none /proc
umount --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
exec env container=other SYSTEMD_UNIT_PATH="$1" {systemd} --system --log-target=console
' sh "$2"
"""


class Booted:
    """A systemd that runs.

    Attributes:
        pid: its process, as seen from here.
        group: its control group, as a directory.
    """

    def __init__(self, pid: int, group: Path) -> None:
        self.pid = pid
        self.group = group

    def systemctl(self, *words: str) -> str:
        """Give an order; return what was said."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--cgroup", "systemctl"]
        done = subprocess.run([*enter, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def path(self, path: Path) -> Path:
        """Return where a path of its mounts is seen from here."""
        return Path(f"/proc/{self.pid}/root{path}")

    def groups(self) -> dict[str, str]:
        """Return each of its processes' control group, by the program's name."""
        found = {}
        for file in self.group.rglob("cgroup.procs"):
            for pid in file.read_text().split():
                with contextlib.suppress(OSError):
                    found[Path("/proc", pid, "comm").read_text().strip()] = file.parent.name
        return found


@contextlib.contextmanager
def booted(directory: Path, command: Sequence[str]) -> Iterator[Booted]:
    """Boot a systemd whose one service is a command, for the length of a ``with`` block."""
    require(os.path.exists(SYSTEMD), f"{SYSTEMD} is missing")
    units = directory / "units"
    units.mkdir()
    (units / "default.target").write_text(f"[Unit]\nRequires={SERVICE}\n")
    (units / SERVICE).write_text(f"[Service]\nExecStart={' '.join(command)}\n")
    for name in ("basic", "shutdown", "sysinit"):  # what every service is given to lean on
        (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    group = _control_groups() / directory.name
    group.mkdir()
    with open(directory / "systemd.log", "wb") as log:
        process = subprocess.Popen(
            ["sh", "-ec", _BOOT.format(systemd=SYSTEMD), "sh", str(group), str(units)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            wait_until(lambda: children.read_text() and (group / "init.scope").exists())
            yield Booted(int(children.read_text()), group)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # and with the first of them the namespace
            process.wait()
            wait_until(lambda: _are_gone(group))


def _control_groups() -> Path:
    points = [one.point for one in mount_points() if one.fstype == "cgroup2"]
    require(points, "no cgroup2 is mounted")
    return Path(os.fsdecode(points[0]))


def _are_gone(group: Path) -> bool:
    with contextlib.suppress(OSError):
        for directory in sorted(group.rglob("*/"), reverse=True):
            directory.rmdir()
        group.rmdir()
    return not group.exists()
