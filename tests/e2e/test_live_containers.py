"""A container that works all through, whoever is restarted or killed around it."""

from __future__ import annotations

import contextlib
import tarfile
import time
from pathlib import Path

import pytest

from tests.e2e.engines import Engines
from tests.support.command import graphdriver
from tests.support.daemon import Daemon

APPENDING = r"""
fail() { echo "line $n: $1" >&2; exit 1; }
trap 'exit 0' TERM
n=0
while :; do
    n=$((n + 1))
    echo $n >> /data/log || fail append
    sync /data/log || fail fsync
    test "$(tail -n 1 /data/log)" = $n || fail "read back"
    : > /data/seen-$n || fail create
    test "$(echo /data/seen-*)" = "/data/seen-$n" || fail list
    rm /data/seen-$n || fail remove
    sleep 0.01
done
"""
"""Appends a numbered line and fsyncs it, reads it back, and lists a folder; any failure ends it."""

PROGRESS_TIMEOUT = 60.0


class Appender:
    """A container called ``lives`` that runs `APPENDING`.

    Args:
        daemon: has the image ``small``.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        run = ["run", "--detach", "--network=none", "--name=lives", "--restart=no"]
        daemon.docker(*run, "small", "sh", "-c", APPENDING)
        # The host sees the container's files through its process; no daemon is needed for that.
        self._log = Path("/proc", self._state("Pid"), "root/data/log")
        self._lines = 0

    def goes_on(self) -> None:
        """See that the same process has written more since the last time."""
        deadline = time.monotonic() + PROGRESS_TIMEOUT
        before = self._lines
        while self._lines <= before:
            assert self._log.parents[1].is_dir(), "it has ended: " + self._logs()
            assert time.monotonic() < deadline, f"it stands still at line {before}"
            with contextlib.suppress(FileNotFoundError):
                self._lines = len(self._log.read_text().splitlines())

    def stop(self) -> None:
        """Stop it, and see that nothing had failed in it and that no line is missing."""
        self.goes_on()
        self._daemon.docker("stop", "lives")
        assert self._state("ExitCode") == "0", self._logs()
        path = self._daemon.folder / "log.tar"
        self._daemon.docker_to_file(path, "cp", "lives:/data/log", "-")
        with tarfile.open(path) as copied:
            file = copied.extractfile("log")
            assert file
            lines = file.read().decode().splitlines()
        assert lines == [str(number + 1) for number in range(len(lines))]
        assert len(lines) >= self._lines

    def _logs(self) -> str:
        return self._daemon.try_docker("logs", "lives").stderr.decode()

    def _state(self, member: str) -> str:
        told = self._daemon.docker("inspect", "--format", f"{{{{.State.{member}}}}}", "lives")
        return told.strip()


def everything_works(daemon: Daemon, folder: Path, round: str) -> None:
    """Use a container that runs: exec, cp both ways, diff, commit."""
    daemon.docker("exec", "lives", "sh", "-c", f"echo {round} > /data/exec")
    (folder / "in").write_text(f"in {round}\n")
    daemon.docker("cp", str(folder / "in"), "lives:/data/in")
    assert daemon.docker("exec", "lives", "cat", "/data/in") == f"in {round}\n"
    daemon.docker("cp", "lives:/data/exec", str(folder / "out"))
    assert (folder / "out").read_text() == f"{round}\n"
    changes = daemon.docker("diff", "lives").splitlines()
    assert {"C /data", "A /data/log", "A /data/exec", "A /data/in"} <= {*changes}
    daemon.docker("commit", "lives", f"committed:{round}")
    read = "cat /data/exec /data/in /data/file && test -s /data/log"
    assert daemon.run(f"committed:{round}", "sh", "-c", read) == (
        f"{round}\nin {round}\nfrom the image\n"
    )


def all_can_go(daemon: Daemon, small: Path) -> None:
    """Remove the container and all images, and load one again."""
    daemon.docker("rm", "lives")
    for image in daemon.docker("images", "--quiet").split():
        daemon.docker("rmi", "--force", image)
    assert daemon.docker("images", "--all", "--quiet") == ""
    daemon.docker("load", "--input", str(small))
    assert daemon.run("small", "cat", "/data/file") == "from the image\n"


@pytest.mark.reaches(
    "Create", "ApplyDiff", "CreateReadWrite", "Get", "Put", "Changes", "Diff", "Remove"
)
def test_a_container_does_not_notice_that_the_plugin_is_stopped_or_killed_and_started(
    engines: Engines, driver: str, small: Path, tmp_path: Path
) -> None:
    with engines.on_plugin(driver) as (daemon, plugin):
        daemon.docker("load", "--input", str(small))
        container = Appender(daemon)
        container.goes_on()

        plugin.stop()
        container.goes_on()
        plugin.start()
        container.goes_on()
        everything_works(daemon, tmp_path, "stopped")

        plugin.kill()
        container.goes_on()
        plugin.start()
        container.goes_on()
        everything_works(daemon, tmp_path, "killed")

        container.stop()
        all_can_go(daemon, small)


@pytest.mark.reaches(
    "Create", "ApplyDiff", "CreateReadWrite", "Get", "Put", "Changes", "Diff", "Remove"
)
def test_a_container_does_not_notice_that_its_daemon_is_killed_and_started(
    engines: Engines, driver: str, small: Path, tmp_path: Path
) -> None:
    with engines.on_plugin(driver, config={"live-restore": True}) as (daemon, plugin):
        daemon.docker("load", "--input", str(small))
        container = Appender(daemon)
        container.goes_on()

        daemon.kill()
        container.goes_on()
        begun = plugin.mark()
        daemon.start()
        (layer,) = (daemon.root / "image" / plugin.name / "layerdb").glob("mounts/*/mount-id")
        calls = [call for call in plugin.calls(begun) if call.layer == layer.read_text()]
        assert [call.method for call in calls] == ["Get", "Put"], "not what this test is about"
        container.goes_on()
        everything_works(daemon, tmp_path, "killed")

        daemon.kill()
        plugin.kill()
        container.goes_on()
        plugin.start()
        daemon.start()
        container.goes_on()
        everything_works(daemon, tmp_path, "both-killed")

        daemon.stop()
        plugin.stop()
        container.goes_on()
        plugin.start()
        daemon.start()
        container.goes_on()
        everything_works(daemon, tmp_path, "both-stopped")

        container.stop()
        all_can_go(daemon, small)


@pytest.mark.reaches(
    *("Create", "ApplyDiff", "CreateReadWrite", "Get", "Put", "Remove"),
    failing=("Cleanup", "Put", "Remove", "Init", "Create"),
)
def test_a_container_does_not_notice_what_somebody_calls_by_hand(
    engines: Engines, driver: str, small: Path
) -> None:
    with engines.on_plugin(driver) as (daemon, plugin):
        daemon.docker("load", "--input", str(small))
        container = Appender(daemon)
        (layer,) = (daemon.root / "image" / plugin.name / "layerdb").glob("mounts/*/mount-id")
        id = f"ID={layer.read_text()}"
        home = f"Home={daemon.root}/{plugin.name}"
        for call in (["Cleanup"], ["Put", id], ["Remove", id], ["Init", home], ["Create", "ID=a"]):
            refused = graphdriver("call", "--plugin", plugin.name, *call)
            assert refused.returncode == 5, refused.stderr
            assert f"for process {daemon.pid}, which lives".encode() in refused.stderr
            container.goes_on()
        assert graphdriver("call", "--plugin", plugin.name, "Exists", id).stdout == (
            b'{"Exists": true}\n'
        )
        container.stop()
        all_can_go(daemon, small)
        daemon.stop()
        assert graphdriver("call", "--plugin", plugin.name, "Cleanup").returncode == 0
        daemon.start()
