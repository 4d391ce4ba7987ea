"""A machine of its own with a real systemd: a container whose root is this machine's, and writable."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.documented import ROOT
from tests.support.filesystems import unmount
from tests.support.ground import require, tool
from tests.support.waiting import wait_until

PLACE = "/var/lib/docker"
"""A tmpfs in the machine, for homes: the root is an overlay, on which no overlay can be mounted."""

RUNS_CONTAINERS = ("--private-network", "--system-call-filter=add_key keyctl bpf")
"""Options of a machine in which containers are to run."""

MAKES_CGROUPS = """
for one in blkio cpu cpuacct cpuset devices freezer memory pids; do
  ! mountpoint --quiet /sys/fs/cgroup/$one || mount -o remount,rw,bind /sys/fs/cgroup/$one
done
"""
"""What a shell does in that machine before containers can run."""


@dataclass
class Machine:
    """A machine that runs.

    Attributes:
        root: its root directory, as seen from here: also what is mounted in it.
        leader: the process ID of its systemd.
    """

    root: Path
    leader: int

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in the machine."""
        done = subprocess.run(
            ["nsenter", f"--target={self.leader}", "--all", *command],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0 or not check, (
            command,
            done.stdout,
            done.stderr,
            self.journal(),
        )
        return done

    def systemctl(self, *words: str, check: bool = True) -> str:
        """Run systemctl; return what it printed."""
        return self.run("systemctl", *words, check=check).stdout.strip()

    def main_pid(self, unit: str) -> int:
        """Return a service's main process, as the machine numbers it; 0 if none runs."""
        return int(self.systemctl("show", "--property=MainPID", "--value", unit))

    def kill(self, number: signal.Signals, unit: str) -> None:
        """Send a signal to the main process of a service."""
        self.systemctl("kill", f"--signal={number.name}", "--kill-whom=main", unit)

    def journal(self) -> str:
        """Return the last lines of the log."""
        command = [
            "nsenter",
            f"--target={self.leader}",
            "--all",
            "journalctl",
            "--no-pager",
            "-n40",
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


@contextlib.contextmanager
def machine(folder: Path, *options: str, base: Path = Path("/")) -> Iterator[Machine]:
    """Boot a machine, and stop it at the end.

    Args:
        folder: a directory for what it prints.
        options: more options of systemd-nspawn.
        base: the root directory of another system, to run that one.
    """
    above = Path(tempfile.mkdtemp(prefix="gdm", dir="/dev/shm"))
    for part in ("upper", "work", "root"):
        (above / part).mkdir()
    root = above / "root"
    layers = f"lowerdir={base},upperdir={above}/upper,workdir={above}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, root], check=True)
    try:
        for wants in (root / "etc/systemd/system").glob("*.wants"):
            shutil.rmtree(wants)  # nothing that is installed here starts there
        # The interpreter's own, unless it is the system's: then the machine has it.
        bound = {ROOT, Path(sys.prefix), Path(sys.base_prefix)} - {Path("/usr")}
        command = [
            *(tool("systemd-nspawn"), "--quiet", "--boot", "--register=no", "--keep-unit"),
            *(f"--directory={root}", f"--machine=gd{secrets.token_hex(4)}", "--console=pipe"),
            *("--resolv-conf=off", "--timezone=off", "--link-journal=no", "--capability=all"),
            *(f"--bind-ro={one}" for one in bound),
            f"--tmpfs={PLACE}:mode=0711",
            *options,
            "systemd.unit=multi-user.target",
        ]
        with open(folder / "console", "wb") as console:
            nspawn = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, "SYSTEMD_NSPAWN_LOCK": "0"},
            )
        try:
            leader = _leader(nspawn, folder / "console")
            try:
                booted = Machine(Path(f"/proc/{leader}/root"), leader)
                wait_until(lambda: booted.systemctl("is-system-running", check=False) in _BOOTED)
                yield booted
            finally:
                # All end with the first process of their PID namespace; it does not end with nspawn.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(leader, signal.SIGKILL)
        finally:
            nspawn.kill()
            nspawn.wait()
    finally:
        unmount(root, "--recursive")
        shutil.rmtree(above)


_BOOTED = ("running", "degraded")


def _leader(nspawn: subprocess.Popen[bytes], console: Path) -> int:
    """Wait for a container's first process; return its process ID."""
    children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")

    def found() -> int:
        if nspawn.poll() is not None:
            printed = console.read_text()
            # systemd needs it from 258 on.
            require("legacy cgroup v1" not in printed, "this systemd needs cgroup v2")
            raise AssertionError(f"systemd-nspawn ended at its start: {printed}")
        for pid in children.read_text().split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    return int(pid)
        return 0

    wait_until(found)
    return found()
