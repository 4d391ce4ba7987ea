"""``graphdriver units``: systemd takes them, and a real systemd runs them."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from graphdriver.docker.client import Client
from graphdriver.drivers.loading import available
from graphdriver.errors import UnreachableError
from tests.support.command import graphdriver
from tests.support.documented import block
from tests.support.ground import tool
from tests.support.systemd import PLACE, Machine, machine
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

PLUGIN = "py-overlay2"
HOME = f"{PLACE}/{PLUGIN}"
UNITS = "etc/systemd/system"


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("machine")) as one:
        yield one


def installed(booted: Machine, *words: str) -> None:
    done = graphdriver("units", *words, "--output", str(booted.root / UNITS))
    assert done.returncode == 0, done.stderr.decode()
    booted.systemctl("daemon-reload")


def plugin_client(booted: Machine) -> Client:
    return Client(str(booted.root / f"run/docker/plugins/{PLUGIN}.sock"))


@pytest.fixture
def plugin(booted: Machine) -> Iterator[Client]:
    """A plugin whose socket systemd holds, with a layer upon another one, mounted and written to."""
    installed(booted, "plugin", "overlay2")
    booted.systemctl("start", f"{PLUGIN}.socket")
    assert booted.main_pid(f"{PLUGIN}.service") == 0
    with plugin_client(booted) as client:
        client.init(HOME, [], [], [])  # the first call starts the service
        client.create("base", "", "", {})
        client.create_read_write("top", "base", "", {})
        path = client.get("top", "")
        (booted.root / path[1:] / "file").write_text("written by a container")
        yield client
    with plugin_client(booted) as client:
        for layer in ("top", "base"):
            client.remove(layer)
        client.cleanup()
    booted.systemctl("stop", f"{PLUGIN}.socket", f"{PLUGIN}.service")


def is_shown(booted: Machine) -> bool:
    """Tell whether the layer is mounted for all processes of the machine, as containers see it."""
    file = booted.root / HOME[1:] / "top/merged/file"
    return file.is_file() and file.read_text() == "written by a container"


class Caller:
    """Makes one call after the other in a thread, each on a connection of its own.

    As a daemon (moby, pkg/plugins/client.go) it tries again if a connection ends before a response:
    that of a caller which has connected and sent nothing yet is closed at a stop.
    """

    def __init__(self, booted: Machine) -> None:
        self._booted = booted
        self._ended = threading.Event()
        self.answered = 0
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._call)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.answered or self.failures)
        return self

    def __exit__(self, *exc: object) -> None:
        before = self.answered
        wait_until(lambda: self.answered > before or self.failures)
        self._ended.set()
        self._thread.join()
        assert not self.failures

    def _call(self) -> None:
        while not self._ended.is_set():
            try:
                try:
                    self._ask()
                except UnreachableError:
                    self._ask()
                self.answered += 1
            except Exception as error:
                self.failures.append(repr(error))
                return

    def _ask(self) -> None:
        with plugin_client(self._booted) as client:
            assert client.exists("top")


def test_an_upgrade_loses_no_call_and_unmounts_nothing(booted: Machine, plugin: Client) -> None:
    before = booted.main_pid(f"{PLUGIN}.service")
    with Caller(booted):
        booted.systemctl("restart", f"{PLUGIN}.service")
    assert booted.main_pid(f"{PLUGIN}.service") not in (0, before)
    assert is_shown(booted)


def test_a_stopped_plugin_unmounts_nothing_and_starts_with_the_next_call(
    booted: Machine, plugin: Client
) -> None:
    booted.systemctl("stop", f"{PLUGIN}.service")
    assert booted.main_pid(f"{PLUGIN}.service") == 0
    assert is_shown(booted)
    with plugin_client(booted) as client:
        assert client.exists("top")
    assert booted.main_pid(f"{PLUGIN}.service") != 0


def test_a_killed_plugin_is_started_again(booted: Machine, plugin: Client) -> None:
    before = booted.main_pid(f"{PLUGIN}.service")
    booted.kill(signal.SIGKILL, f"{PLUGIN}.service")
    wait_until(lambda: booted.main_pid(f"{PLUGIN}.service") not in (0, before))
    with plugin_client(booted) as client:
        assert client.exists("top")
    assert is_shown(booted)


def test_a_plugin_that_hangs_is_started_again(booted: Machine, plugin: Client) -> None:
    drop_in = booted.root / UNITS / f"{PLUGIN}.service.d"
    drop_in.mkdir()
    (drop_in / "soon.conf").write_text("[Service]\nWatchdogSec=2\n")
    booted.systemctl("daemon-reload")
    booted.systemctl("restart", f"{PLUGIN}.service")
    before = booted.main_pid(f"{PLUGIN}.service")
    with Caller(booted) as caller:  # a healthy one lives longer than the limit
        wait_until(lambda: caller.answered > 50)
        booted.run("sleep", "4")
    assert booted.main_pid(f"{PLUGIN}.service") == before
    booted.kill(signal.SIGSTOP, f"{PLUGIN}.service")
    wait_until(lambda: booted.main_pid(f"{PLUGIN}.service") not in (0, before))
    with plugin_client(booted) as client:
        assert client.exists("top")
    assert is_shown(booted)
    (drop_in / "soon.conf").unlink()
    drop_in.rmdir()
    booted.systemctl("daemon-reload")


def test_a_snapshotter_runs_before_containerd_and_is_started_again(booted: Machine) -> None:
    installed(booted, "snapshotter", "overlay2", "--name", "py-snap", "--data-root", PLACE)
    booted.systemctl("enable", "--now", "py-snap.service")
    socket = booted.root / "run/graphdriver-py-snap.sock"
    assert socket.is_socket()  # it has told systemd that it is ready
    assert "containerd.service" in booted.systemctl("show", "--property=Before", "py-snap.service")
    before = booted.main_pid("py-snap.service")
    booted.kill(signal.SIGKILL, "py-snap.service")
    wait_until(lambda: booted.main_pid("py-snap.service") not in (0, before))
    wait_until(lambda: booted.systemctl("is-active", "py-snap.service", check=False) == "active")
    booted.systemctl("disable", "--now", "py-snap.service")
    assert not socket.exists()


@pytest.mark.parametrize("driver", sorted(available()))
@pytest.mark.parametrize("kind", ["plugin", "snapshotter"])
def test_systemd_takes_the_units_of_each_driver(kind: str, driver: str, tmp_path: Path) -> None:
    done = graphdriver("units", kind, driver, "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr.decode()
    names = sorted(os.listdir(tmp_path))
    assert names == [f"py-{driver}.service", f"py-{driver}.socket"][: 2 if kind == "plugin" else 1]
    verified = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", *(f"./{name}" for name in names)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    lines = (verified.stdout + verified.stderr).splitlines()
    of_others = "/usr/lib/systemd/"  # what a newer systemd dislikes of the units of other packages
    assert [line for line in lines if not line.startswith(of_others)] == []


def test_a_word_with_special_characters_arrives_as_it_is(booted: Machine) -> None:
    option = """k=a b"c'd\\e%f$g;h"""
    shown = graphdriver("units", "plugin", "vfs", "--opt", option).stdout.decode()
    (line,) = (line for line in shown.splitlines() if line.startswith("ExecStart="))
    words = line.removeprefix("ExecStart=").partition("graphdriver ")[2]
    printer = "import sys; print(sys.argv)"
    (booted.root / UNITS / "words.service").write_text(
        f"[Service]\nType=oneshot\nExecStart={sys.executable} -c {shlex.quote(printer)} {words}\n"
    )
    booted.systemctl("daemon-reload")
    booted.systemctl("start", "words.service")
    logged = booted.run("journalctl", "--unit=words.service", "--output=cat", "--no-pager").stdout
    assert repr(option) in logged


def test_the_documented_units_are_those_that_are_made() -> None:
    made = graphdriver("units", "plugin", "vfs").stdout.decode()
    made = made.replace(str(Path(sys.executable).parent), "/opt/graphdriver/bin")
    for section in ("[Socket]", "[Service]"):
        shown = block("docs/operations.md", "ini", section)
        # Privileges come last; they depend on the machine.
        assert shown.strip() in made


@pytest.mark.parametrize("name", ["overlay2", "../x", "a b", "-x"])
def test_a_name_that_is_no_plugins_is_refused(name: str) -> None:
    assert graphdriver("units", "plugin", "vfs", f"--name={name}").returncode == 2
