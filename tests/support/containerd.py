"""A real containerd in a directory of its own, and its client."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from graphdriver.linux.mountinfo import mount_points
from tests.support.containerd_images import write_image
from tests.support.filesystems import unmount
from tests.support.ground import engine, tool
from tests.support.mounting import mount
from tests.support.network import Host
from tests.support.pairings import Pairing, noted

TIMEOUT = 120.0
IMAGE = "docker.io/library/image:latest"
_CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]

[grpc]
  address = "{folder}/c.sock"

[proxy_plugins.ours]
  type = "snapshot"
  address = "{address}"
  capabilities = {capabilities}

[plugins."io.containerd.gc.v1.scheduler"]
  schedule_delay = "0ms"

[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "ours"
  differ = "{differ}"

[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "overlayfs"
  differ = "walking"
"""
_DIFF_SERVICE = """
[proxy_plugins.ours-diff]
  type = "diff"
  address = "{address}"

[plugins."io.containerd.service.v1.diff-service"]
  default = ["ours-diff", "walking"]
"""


class Containerd:
    """containerd, with a snapshotter called ``ours``.

    Args:
        folder: the directory of its files.
        address: the snapshotter's socket.
        capabilities: of the snapshotter.
        namespace: of all that its client makes. The state of running containers is kept in
            ``/run/containerd/runc/NAMESPACE``, for every containerd of the machine.
        our_differ: whether layers are applied and made by the snapshotter's diff service; needs
            containerd 1.7.20.
        config: its whole configuration; the usual one, without the CRI plugin, if it is empty.
        host: the machine that it runs on; this one, if it is None.
    """

    def __init__(
        self,
        folder: Path,
        address: str,
        capabilities: Sequence[str] = (),
        namespace: str = "default",
        *,
        our_differ: bool = False,
        config: str = "",
        host: Host | None = None,
    ) -> None:
        self.folder = folder
        self._mark = secrets.token_hex(4)  # the names of temporary directories are no such names
        self._program = (*(host.program if host else ()), *engine("containerd"))
        self._namespace = namespace
        self._snapshotter = address
        self._pairing: Pairing | None = None
        self._process: subprocess.Popen[bytes]
        self._config = folder / "c.toml"
        self._config.write_text(
            config
            or _CONFIG.format(
                folder=folder,
                address=address,
                capabilities=list(capabilities),
                differ="ours-diff" if our_differ else "walking",
            )
            + (_DIFF_SERVICE.format(address=address) if our_differ else "")
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[Containerd]:
        """Run it for the length of a ``with`` block; containers that are left are killed."""
        try:
            self.start()
            yield self
        finally:
            for id in self.ctr("container", "ls", "-q").split():
                self.run("task", "kill", "-s", "9", id)
                self.run("task", "rm", "-f", id)
                self.run("container", "rm", id)
            self.stop()
            for point in sorted(self.mounts(), reverse=True):
                subprocess.run([tool("umount"), "-l", point], check=False)

    def named(self, container: str) -> str:
        """Return a name that no other container has: runc keeps those of all engines together."""
        return f"{container}-{self._mark}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with open(self.folder / "c.log", "ab") as log:
            self._process = subprocess.Popen(
                [*self._program, "-c", str(self._config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + TIMEOUT
        while self.run("version").returncode:
            assert self._process.poll() is None, (self.folder / "c.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if noted.is_recording:
            self._pairing = noted.of_containerd(
                self.ctr("version"), f"{self.folder}/c.sock", self._snapshotter
            )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stop(self) -> None:
        """Stop it in good order; containers live on."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(TIMEOUT)

    def kill(self) -> None:
        """Kill it with -9; containers live on."""
        self._process.kill()
        self._process.wait(TIMEOUT)

    def ctr(self, *words: str) -> str:
        """Run its client; return what it prints."""
        done = self.run(*words)
        assert done.returncode == 0, f"ctr {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def sees_the_snapshotter(self) -> None:
        """Wait until it has found the snapshotter: it dials one that was gone after a while."""
        deadline = time.monotonic() + TIMEOUT
        while self.run("snapshot", "--snapshotter", "ours", "prepare", "seen").returncode:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        self.ctr("snapshot", "--snapshotter", "ours", "rm", "seen")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run its client, whether or not it succeeds."""
        command = self._command(words)
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)

    def output(self, *words: str) -> bytes:
        """Run its client; return the bytes that it writes."""
        command = self._command(words)
        return subprocess.run(command, stdout=subprocess.PIPE, timeout=TIMEOUT, check=True).stdout

    def _command(self, words: Sequence[str]) -> list[str]:
        noted.note(self._pairing)
        return [*engine("ctr"), "-a", f"{self.folder}/c.sock", "-n", self._namespace, *words]

    def inside(self, container: str, *words: str) -> str:
        """Run a program in a container; return what it prints, whether or not it succeeds."""
        number = f"exec-{time.monotonic_ns()}"
        return self.run("task", "exec", "--exec-id", number, container, *words).stdout

    def snapshots(self, snapshotter: str = "ours") -> dict[str, str]:
        """Return the snapshots that it knows, and the kind of each."""
        lines = self.ctr("snapshot", "--snapshotter", snapshotter, "ls").splitlines()[1:]
        return {line.split()[0]: line.split()[-1] for line in lines}

    def mounts(self) -> list[str]:
        """Return the mount points below its directories."""
        own = tuple(f"{self.folder}/{name}/" for name in ("root", "state"))
        points = (os.fsdecode(one.point) for one in mount_points())
        return [point for point in points if point.startswith(own)]


def imported(containerd: Containerd, folder: Path, layers: list[bytes]) -> None:
    """Import an image with these layers, called `IMAGE`, onto the snapshotter."""
    write_image(folder / "image.tar", "image:latest", layers)
    containerd.ctr("image", "import", "--snapshotter", "ours", str(folder / "image.tar"))


@contextlib.contextmanager
def shown(containerd: Containerd, snapshotter: str, name: str, place: Path) -> Iterator[str]:
    """Mount a committed snapshot as containerd is told to; the view may be collected meanwhile."""
    place.mkdir()
    use = ("snapshot", "--snapshotter", snapshotter)
    line = containerd.ctr(*use, "view", "--target", str(place), "shown", name)
    _, _, kind, source, _, _, options = line.split()  # mount -t KIND SOURCE PLACE -o OPTIONS
    mount(kind, source, str(place), options)
    try:
        yield str(place)
    finally:
        unmount(place)
        place.rmdir()
        containerd.run(*use, "rm", "shown")
