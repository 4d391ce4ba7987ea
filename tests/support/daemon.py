"""A dockerd of a test's own: its directory, its socket, its start and its end.

All files of the daemon are below one directory. It uses no network: no bridge, no iptables, and
containers run with ``--network none``, so that several daemons live side by side on one machine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from graphdriver.drivers.overlay.aliases import ALIASES
from tests.support import leftovers
from tests.support.ground import Docker
from tests.support.pairings import Pairing, noted

START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0
COMMAND_TIMEOUT = 180.0


class DockerError(Exception):
    """A docker command or a daemon failed; the text has the output of both."""


class Daemon:
    """One dockerd; `start` may follow `stop` or `kill`, with all images there.

    Args:
        docker: the programs.
        folder: the directory of all files of the daemon.
        log: the file that the daemon's own log goes to.
        storage_driver: a built-in driver's name, or a plugin's.
        config: more members of ``daemon.json``.
    """

    def __init__(
        self,
        docker: Docker,
        folder: Path,
        log: Path,
        storage_driver: str,
        config: Mapping[str, object] | None = None,
    ) -> None:
        self.folder = folder
        self.log = log
        self.storage_driver = storage_driver
        self.data_root = folder / "data"
        self.socket = folder / "s"
        self._docker = docker
        self._process: subprocess.Popen[bytes] | None = None
        self._ended_badly = False
        self._pairing: Pairing | None = None
        self._config = {
            "experimental": True,
            "bridge": "none",
            "iptables": False,
            "ip-forward": False,
            "storage-driver": storage_driver,
            **(config or {}),
        }

    @property
    def root(self) -> Path:
        """The directory of the daemon's data: with remapped ids one below its data root.

        There is no telling before it was started.
        """
        remapped = [*self.data_root.glob("[0-9]*.[0-9]*")]
        return remapped[0] if remapped else self.data_root

    @property
    def pid(self) -> int:
        """The process ID of the dockerd that runs."""
        assert self._process
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether the daemon was started and neither stopped nor killed since."""
        return self._process is not None

    def switch_to(self, storage_driver: str) -> None:
        """Take another storage driver from the next start on."""
        self.storage_driver = storage_driver
        self._config["storage-driver"] = storage_driver

    def start(self) -> None:
        """Start the daemon and wait until it answers.

        Raises:
            DockerError: it does not; if it has ended, it may be started again.
        """
        with leftovers.adopting_orphans():
            self._start()

    def _start(self) -> None:
        config = self.folder / "daemon.json"
        config.write_text(json.dumps(self._config))
        command = [
            *self._docker.daemon,
            f"--config-file={config}",
            f"--data-root={self.data_root}",
            f"--exec-root={self.folder / 'exec'}",
            f"--pidfile={self.folder / 'pid'}",
            f"--host=unix://{self.socket}",
        ]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "DOCKERD_DEPRECATED_GRAPHDRIVER_PLUGINS": "1"},
            )
        deadline = time.monotonic() + START_TIMEOUT
        while self.try_docker("info").returncode != 0:
            if self._process.poll() is not None:
                self._process = None
                self._ended_badly = True
                leftovers.bury_containerd(self.folder / "exec")
                raise DockerError(f"dockerd ended at its start{self._tail()}")
            if time.monotonic() > deadline:
                raise DockerError(f"dockerd did not answer in {START_TIMEOUT} s{self._tail()}")
            time.sleep(0.05)
        if noted.is_recording:
            self._pairing = self._find_pairing()

    def _find_pairing(self) -> Pairing | None:
        info = json.loads(self.docker("info", "--format={{json .}}"))
        managed = self.data_root.glob(f"plugins/*/propagated-mount/{self.storage_driver}")
        homes = (self.root / self.storage_driver, *managed)
        return noted.of_docker(info, homes, str(self._config.get("containerd", "")))

    def stop(self) -> None:
        """Stop the daemon in good order, its containers with it."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise DockerError(f"dockerd did not stop in {STOP_TIMEOUT} s{self._tail()}") from None
        self._process = None
        if code != 0:
            raise DockerError(f"dockerd ended with {code}{self._tail()}")

    def kill(self) -> None:
        """Kill the daemon, and wait until the containerd that it started is gone too."""
        assert self._process
        self._ended_badly = True
        with leftovers.adopting_orphans():
            containerd = leftovers.containerd_of(self.folder)
            self._process.kill()
            self._process.wait()
            self._process = None
            for pid in containerd:
                os.waitpid(pid, 0)

    def close(self) -> None:
        """Stop the daemon if it runs, and remove all it had.

        Raises:
            DockerError: something was left mounted or running below its directory.
        """
        try:
            if self._process:
                self.stop()
        finally:
            if self._process:
                self._process.kill()
                self._process.wait()
            root = self.root
            found = leftovers.sweep(self.folder)
            leftovers.destroy_subvolumes(self.folder)
            subprocess.run(["rm", "-rf", "--one-file-system", self.folder], check=True)
        # A daemon that was killed, could not start, or lets containers live on leaves the mount of its
        # data root on itself, one for each start; and its driver shows the home for its next one.
        if self._ended_badly or self._config.get("live-restore"):
            found = [
                what
                for what in found
                if what != f"mount {root}" and not what.startswith(f"mount {ALIASES}/")
            ]
        if found:
            raise DockerError("left behind:\n" + "\n".join(found))

    def docker(
        self,
        *arguments: str,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run a docker command to its end and return what it printed."""
        done = self.try_docker(*arguments, input=input, env=env)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
            raise DockerError(f"docker {' '.join(arguments)}: {said}{self._tail()}")
        return done.stdout.decode(errors="surrogateescape")

    def try_docker(
        self,
        *arguments: str,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        stdout: IO[bytes] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a docker command that may fail."""
        return subprocess.run(
            self.command(arguments),
            input=input if input is not None else b"",
            stdout=stdout or subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=COMMAND_TIMEOUT,
            env=self.environment(env),
        )

    def begin_docker(
        self, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Begin a docker command that goes on while others run."""
        return subprocess.Popen(
            self.command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment(env),
        )

    def docker_to_file(self, path: Path, *arguments: str) -> None:
        """Run a docker command that outputs a tar."""
        with open(path, "wb") as file:
            done = self.try_docker(*arguments, stdout=file)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace")
            raise DockerError(f"docker {' '.join(arguments)}: {said}{self._tail()}")

    def run(self, image: str, *command: str, options: Sequence[str] = ()) -> str:
        """Run a container to its end, remove it, and return what it printed."""
        return self.docker("run", "--rm", "--network=none", *options, image, *command)

    def clear(self) -> None:
        """Remove all containers, images and what builders keep."""
        for container in self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", container)
        self.docker("builder", "prune", "--all", "--force")
        self.docker("system", "prune", "--all", "--force")

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the whole command line of a docker command to this daemon."""
        noted.note(self._pairing)
        return [*self._docker.client, f"--host=unix://{self.socket}", *arguments]

    def environment(self, env: Mapping[str, str] | None) -> dict[str, str]:
        """Return an environment in which no setting of the machine's user changes the client."""
        mine = {name: value for name, value in os.environ.items() if "DOCKER" not in name}
        mine["DOCKER_CONFIG"] = str(self.folder / "client")
        return mine | dict(env or {})

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        telling = [line for line in lines if "level=info" not in line and "module=grpc" not in line]
        return "\n--- the end of dockerd's log\n" + "\n".join(telling[-15:])
