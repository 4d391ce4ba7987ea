"""How ``graphdriver doctor`` reads its facts from a machine that may be damaged or hostile."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.care.doctor import daemon_api
from graphdriver.care.doctor.daemon import read_daemon
from graphdriver.care.doctor.daemon_api import ask_daemon
from graphdriver.care.doctor.home import read_home
from graphdriver.care.doctor.limits import read_limits, read_process
from graphdriver.care.doctor.mounts import leaked, read_mounts
from graphdriver.care.doctor.propagation import read_propagation
from graphdriver.linux.processes import device_users
from graphdriver.serving.privileges import LAYERS
from tests.care.fsck_homes import serving

pytestmark = pytest.mark.root

OK = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"


@contextlib.contextmanager
def answering(folder: Path, answer: bytes, *, hangs: bool = False) -> Iterator[str]:
    """Listen as something that is no daemon, and send an answer to each question."""
    path = str(folder / "d")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen(5)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(4096)
                        if hangs:
                            while True:  # one byte now and then
                                connection.sendall(b" ")
                                time.sleep(0.02)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "is not HTTP"),
        (b"\x00" * 100, "is not HTTP"),
        (b"HTTP/1.0\r\n\r\n{}", "is not HTTP"),
        (b"HTTP/1.0 500 no\r\n\r\n{}", "has the status b'500'"),
        (OK + b"[1]", "is not a JSON object"),
        (OK + b'{"a":', "is not JSON"),
        (OK + b"[" * 200_000, "is not JSON"),
        (OK + b" " * (5 << 20), "is longer than 4 MiB"),
    ],
)
def test_what_is_no_daemon_is_a_problem_and_no_crash(
    tmp_path: Path, answer: bytes, said: str
) -> None:
    with answering(tmp_path, answer) as path:
        assert said in read_daemon(path).problem


def test_a_daemon_that_never_ends_its_answer_is_given_up(tmp_path: Path) -> None:
    with (
        answering(tmp_path, b"", hangs=True) as path,
        pytest.raises(TimeoutError),
    ):
        ask_daemon(path, "/version", 0.3)


def test_members_of_other_types_are_unknown(tmp_path: Path) -> None:
    body = b'{"Version": 7, "Driver": ["x"], "ExperimentalBuild": "yes", "SecurityOptions": "rootless"}'
    with answering(tmp_path, OK + body) as path:
        facts = read_daemon(path)
    assert (facts.problem, facts.version, facts.driver) == ("", "", "")
    assert not facts.experimental
    assert not facts.options
    assert read_daemon(str(tmp_path / "none")).is_absent
    assert daemon_api.SOCKET == "/run/docker.sock"


def test_a_home_tells_of_itself_and_of_its_filesystem(tmp_path: Path) -> None:
    with serving("vfs", tmp_path / "home"):
        facts = read_home(str(tmp_path / "home"))
    assert (facts.engine, facts.driver, facts.problem) == ("docker", "vfs", "")
    assert facts.size > facts.free > 0
    (tmp_path / "home/.graphdriver/home.json").write_text("{")
    assert "damaged" in read_home(str(tmp_path / "home")).problem


def test_a_home_cannot_choose_a_module_that_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chosen.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with serving("vfs", tmp_path / "home"):
        pass
    record = tmp_path / "home/.graphdriver/home.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "driver": "chosen:Driver"}))
    assert "not installed" in read_home(str(tmp_path / "home")).problem
    read_mounts(str(tmp_path / "home"), "docker", "chosen:Driver")
    assert not (tmp_path / "imported").exists()


def test_a_mount_is_explained_by_a_count_and_leaks_without_one(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    with serving("overlay2", tmp_path / "home") as served:
        served.driver.create("base", "", "", {})
        served.driver.create("top", "base", "", {})
        path = served.driver.get("top", "")
        facts = read_mounts(home, "docker", "overlay2")
        (mount,) = facts.mounts
        assert (mount.point, mount.layer, mount.references) == (path, "top", 1)
        assert leaked(facts) == []

        # The count is lost, and somebody works there.
        holders = [
            subprocess.Popen(["sleep", "600"], cwd=path),
            subprocess.Popen([sys.executable, "-c", HOSTILE, path]),
        ]
        try:
            os.unlink(next(Path("/run/graphdriver/held").glob(f"*{tmp_path.name}*/top")))
            deadline = time.monotonic() + 60
            while len(device_users([mount.device])[mount.device]) < 2:
                assert time.monotonic() < deadline
            (lost,) = leaked(read_mounts(home, "docker", "overlay2"))
        finally:
            for holder in holders:
                holder.kill()
                holder.wait()
        assert f"process {holders[0].pid} (sleep) has its cwd there" in lost.holders
        assert any(f"process {holders[1].pid} (evil" in one for one in lost.holders)
        served.driver.put("top")


HOSTILE = """
import ctypes, os, sys, time
ctypes.CDLL(None).prctl(15, b"evil) 1\\n\\x1b[2J")  # PR_SET_NAME
held = open(sys.argv[1])  if os.path.isfile(sys.argv[1]) else os.open(sys.argv[1], os.O_RDONLY)
time.sleep(600)
"""
"""A process with a name that would look like more lines of a report, and an open directory."""


def test_what_another_mount_namespace_alone_has_mounted_is_found(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    with serving("overlay2", tmp_path / "home") as served:
        served.driver.create("base", "", "", {})
        served.driver.create("top", "base", "", {})
        path = served.driver.get("top", "")
        # As a container's root: what is mounted on the layer's own directory goes with that.
        (root := tmp_path / "root").mkdir()
        script = f"mount --bind {path} {root} && echo && exec sleep 600"
        command = ["unshare", "--mount", "--propagation=private", "sh", "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
            try:
                assert holder.stdout
                assert holder.stdout.readline() == b"\n"
                assert read_mounts(home, "docker", "overlay2").elsewhere == ()
                served.driver.put("top")
                (found,) = read_mounts(home, "docker", "overlay2").elsewhere
            finally:
                holder.kill()
        assert (found.layer, found.process.split(" (")[0]) == ("top", f"process {holder.pid}")


def test_a_process_that_is_gone_has_unknown_limits() -> None:
    gone = 1 << 30
    facts = read_process("plugin", gone, is_plugin=True)
    assert (facts.files, facts.files_most, facts.tasks) == (None, None, None)
    assert not facts.missing
    assert read_propagation("/", gone, gone).plugin == ""
    assert device_users([1 << 40]) == {1 << 40: []}
    limits = read_limits([("plugin", gone)])
    assert limits.mounts
    assert limits.mounts_most


def test_what_a_process_may_do_is_read(tmp_path: Path) -> None:
    facts = read_process("plugin", os.getpid(), is_plugin=True)
    assert facts.files
    assert facts.files_most
    assert facts.missing == frozenset()  # the tests run as root
    command = ["setpriv", "--bounding-set=-mknod", "sleep", "600"]
    with subprocess.Popen(command) as limited:
        try:
            deadline = time.monotonic() + 60
            while Path(f"/proc/{limited.pid}/comm").read_text() != "sleep\n":
                assert time.monotonic() < deadline
            assert read_process("plugin", limited.pid, is_plugin=True).missing == {"CAP_MKNOD"}
        finally:
            limited.kill()
    assert "CAP_MKNOD" in LAYERS
