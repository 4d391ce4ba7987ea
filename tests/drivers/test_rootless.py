"""A plugin that runs in a user namespace, called from outside: the drivers on overlays without root.

The namespace has subordinate ids, written by its parent as newuidmap(1) does, and filesystems of its
own over the home and the directories that rootlesskit gives a daemon of its own: /run and /etc/docker.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.docker.client import Client
from graphdriver.driver import Change, ChangeKind
from graphdriver.errors import RemoteError
from tests.support.ground import require, tool
from tests.support.subordinate import FIRST, give_ids

INSIDE = """
read go
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /etc/docker && mount -t tmpfs tmpfs "$2" || exit 1
exec "$0" -m graphdriver serve "$1" --socket "$3"
"""
TIMEOUT = 60.0


class Rootless:
    """The plugin, and a look at what is mounted in its namespace."""

    def __init__(self, driver: str, directory: Path) -> None:
        self.home = str(directory / "home")
        self._log = directory / "log"
        os.mkdir(self.home)
        os.makedirs("/etc/docker", exist_ok=True)
        socket = str(directory / f"{directory.name}.sock")
        begin = [tool("unshare"), "--user", "--mount", "/bin/sh", "-c", INSIDE]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [*begin, sys.executable, driver, self.home, socket],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        assert self._process.stdin
        give_ids(self._process.pid)
        self._process.stdin.write(b"go\n")
        self._process.stdin.close()
        deadline = time.monotonic() + TIMEOUT
        while b"INFO    serving" not in self._log.read_bytes():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        self.client = Client(socket, timeout=TIMEOUT)
        self.client.init(self.home, [], [], [])

    @property
    def log(self) -> str:
        return self._log.read_text()

    @contextlib.contextmanager
    def shown(self, id: str) -> Iterator[str]:
        """Get a layer, and put it."""
        path = self.client.get(id, "")
        try:
            yield path
        finally:
            self.client.put(id)

    def run(self, *words: str) -> str:
        """Run a program where the plugin runs: nobody else sees into its mounts."""
        enter = [tool("nsenter"), "--target", str(self._process.pid), "--user", "--mount"]
        done = subprocess.run([*enter, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def on_disk(self, path: str) -> os.stat_result:
        """Look at what is below the home from outside."""
        return os.lstat(f"/proc/{self._process.pid}/root{self.home}/{path}")

    def end(self) -> None:
        self.client.cleanup()
        self.client.close()
        self._process.terminate()
        assert self._process.wait(TIMEOUT) == 0, self.log


@pytest.fixture(params=["overlay2", "fuse-overlayfs"])
def rootless(request: pytest.FixtureRequest) -> Iterator[Rootless]:
    require(os.geteuid() == 0, "to write a namespace's maps of ids needs root")
    require(os.path.exists("/dev/fuse"), "/dev/fuse is missing")
    with tempfile.TemporaryDirectory(prefix="gdr-", dir="/dev/shm") as directory:
        one = Rootless(request.param, Path(directory))
        yield one
        one.end()


BASE = tars.tar(
    tars.directory(b"etc"),
    tars.file(b"etc/owned", b"owned", mode=0o4755, uid=1000, gid=1001),
    tars.hard_link(b"again", b"etc/owned"),
    tars.symlink(b"link", b"etc/owned"),
    tars.header(b"pipe", b"6", mode=0o620),
    tars.header(b"null", b"3", mode=0o666, device=(1, 3)),
    tars.directory(b"gone"),
    tars.file(b"gone/below", b"below"),
    tars.file(b"old", b"old"),
)
ABOVE = tars.tar(
    tars.whiteout(b".wh.old"),
    tars.directory(b"gone"),
    tars.whiteout(b"gone/.wh..wh..opq"),
    tars.file(b"gone/above", b"above", uid=1000),
)


def listed(diff: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(diff)) as archive:
        return sorted(archive.getnames())


def read(client: Client, id: str, parent: str) -> bytes:
    with contextlib.closing(client.diff(id, parent)) as stream:
        return b"".join(iter(lambda: stream.read(1 << 16), b""))


@pytest.mark.root
def test_a_layer_lives_in_a_user_namespace_as_elsewhere(rootless: Rootless) -> None:
    client = rootless.client
    client.create("a", "", "", {})
    client.apply_diff("a", "", io.BytesIO(BASE))
    client.create("b", "a", "", {})
    client.apply_diff("b", "a", io.BytesIO(ABOVE))
    client.create_read_write("c", "b", "", {})
    with rootless.shown("c") as root:
        found = rootless.run("find", root, "-mindepth", "1", "-printf", "%P %U:%G %m %y\n")
        assert sorted(found.splitlines()) == [
            "again 1000:1001 4755 f",
            "etc 0:0 755 d",
            "etc/owned 1000:1001 4755 f",
            "gone 0:0 755 d",
            "gone/above 1000:0 644 f",
            "link 0:0 777 l",
            "pipe 0:0 620 p",
        ]
        inodes = rootless.run("stat", "-c", "%i", f"{root}/again", f"{root}/etc/owned").split()
        assert len(set(inodes)) == 1
        rootless.run("sh", "-c", f"rm {root}/gone/above; echo new > {root}/new")
    assert rootless.on_disk("a/diff/etc/owned").st_uid == FIRST + 1000
    assert rootless.log.count("'null'") == 1, "a device that is left out is told of"

    diff = read(client, "b", "a")
    assert listed(diff) == [".wh.old", "gone", "gone/.wh..wh..opq", "gone/above"]
    with tarfile.open(fileobj=io.BytesIO(diff)) as archive:
        assert archive.getmember("gone/above").uid == 1000
    assert sorted(client.changes("c", "b"), key=lambda one: one.path) == [
        Change("/gone", ChangeKind.MODIFIED),
        Change("/gone/above", ChangeKind.DELETED),
        Change("/new", ChangeKind.ADDED),
    ]
    client.create("again", "a", "", {})
    client.apply_diff("again", "a", io.BytesIO(diff))
    assert read(client, "again", "a") == diff
    for id in ("again", "c", "b", "a"):
        client.remove(id)
        assert not client.exists(id)


@pytest.mark.root
def test_an_owner_whom_the_namespace_does_not_have_is_an_error(rootless: Rootless) -> None:
    rootless.client.create("a", "", "", {})
    tar = tars.tar(tars.file(b"theirs", b"theirs", uid=70_000))
    with pytest.raises(RemoteError, match=r"theirs.*70000.*subordinate ids"):
        rootless.client.apply_diff("a", "", io.BytesIO(tar))
    rootless.client.remove("a")
