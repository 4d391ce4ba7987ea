"""Gigabytes into a plugin and out of it, over its socket, in the memory of a small layer.

In `make test-long` they are twenty, more than fits on a disk or tmpfs here. On the way in the tar is
really parsed, and its files are really written and given their metadata, but a second thread deletes
each when it is whole (`tests.layer.flood`). On the way out all files share the blocks of one (reflinks
on XFS), and each is read from the disk again, byte for byte.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver import Client, mounted
from graphdriver.conformance.plugin import tars
from graphdriver.linux import reflink
from tests.layer.flood import KEPT
from tests.support.command import Serving
from tests.support.documented import ROOT
from tests.support.filesystems import loop
from tests.support.long import times
from tests.support.pieces import Pieces

MIB = 1 << 20
FILE = 128 * MIB
FILES = times(gate=15, long=150)
ALL = FILES * FILE
MARK = b"real bytes"
PIECE = os.urandom(MIB - len(MARK)) + MARK

GROWTH = 8 * MIB
"""How much more memory the plugin may have for gigabytes than for a few bytes."""

SPACE = 64 * MIB
"""How much address space is left to it (RLIMIT_AS): threads reserve 8 MiB for their stacks."""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # each arena of glibc's reserves 64 MiB
    path = Path(f"/dev/shm/gd-flood-{os.getpid()}")
    path.mkdir()
    yield path
    shutil.rmtree(path)


@contextlib.contextmanager
def serving(folder: Path, home: Path) -> Iterator[Serving]:
    """Serve the driver by a process of its own that has done every call once."""
    plugin = Serving(folder, "tests.layer.flood:Flood", path=str(ROOT)).ready()
    try:
        with Client(plugin.socket) as client:
            client.init(str(home), [], [], [])
            for id in ("small", f"{KEPT}-small"):
                client.create(id, "", "", {})
                client.apply_diff(id, "", Pieces(iter([tars.tar(tars.file(b"f", bytes(MIB)))])))
            with contextlib.closing(client.diff(f"{KEPT}-small", "")) as stream:
                assert len(stream.read(MIB)) > 0
        yield plugin
    finally:
        plugin.end()


def memory(pid: int, what: str) -> int:
    """Return a line of the process's status, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if what in line)


def grown(plugin: Serving, work: Callable[[Client], None]) -> int:
    """Do some work with little address space; return how far the plugin's memory grew at its peak."""
    pid = plugin.process.pid
    limit = memory(pid, "VmSize") + SPACE
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM begins anew
    before = memory(pid, "VmRSS")
    with Client(plugin.socket) as client:
        work(client)
    return memory(pid, "VmHWM") - before


def large_layer() -> Iterator[bytes]:
    for number in range(FILES):
        yield tars.header(b"%d" % number, size=FILE)
        for _ in range(FILE // MIB):
            yield PIECE
    yield tars.END


def test_gigabytes_go_in(folder: Path) -> None:
    def apply(client: Client) -> None:
        client.create("large", "", "", {})
        assert client.apply_diff("large", "", Pieces(large_layer())) == ALL

    with serving(folder, folder / "home") as plugin:
        assert grown(plugin, apply) < GROWTH


def test_gigabytes_come_out(folder: Path) -> None:
    def read(client: Client) -> None:
        client.create(f"{KEPT}-large", "", "", {})
        with (
            mounted(client, f"{KEPT}-large") as root,
            open(os.path.join(root, "000"), "w+b") as first,
        ):
            for _ in range(FILE // MIB):
                first.write(PIECE)
            first.flush()
            for number in range(1, FILES):
                with open(os.path.join(root, f"{number:03}"), "wb") as file:
                    assert reflink.clone(file.fileno(), first.fileno())
        size = marks = 0
        end = b""
        with contextlib.closing(client.diff(f"{KEPT}-large", "")) as stream:
            while piece := stream.read(MIB):
                size += len(piece)
                marks += (end + piece).count(MARK)
                end = (end + piece)[1 - len(MARK) :]
        headers = 1 + FILES + FILES  # the root's; each file's, and its time of nanoseconds
        assert size >= ALL + headers * 512
        assert marks == ALL // MIB

    with loop("xfs", folder) as disk, serving(folder, disk / "home") as plugin:
        assert grown(plugin, read) < GROWTH
