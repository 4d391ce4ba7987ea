"""A migration to another driver that is killed at any call: one side is whole, and no mount is left.

The next run completes it. Layers, records and what a container wrote are then as they were.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from graphdriver.care.migration.plan import LayerKind, Side
from graphdriver.care.migration.workplace import NAME, is_blocked
from graphdriver.conformance.plugin import tars
from graphdriver.linux.mountinfo import mount_points
from tests.crash import strace
from tests.support.command import environment
from tests.support.docker_root import DockerRoot
from tests.support.long import times
from tests.support.sides import OldSide, driving, shown, side

pytestmark = pytest.mark.root

BASE = tars.tar(
    tars.directory(b"etc"),
    tars.file(b"etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
    tars.file(b"large", b"0123456789abcdef" * 10_000),
    tars.hard_link(b"again", b"etc/passwd"),
)
TOP = tars.tar(tars.directory(b"etc"), tars.file(b"etc/new", b"new"), tars.whiteout(b".wh.again"))
CONTAINER = "c" * 64
POINTS = times(gate=3, long=100_000)
FEWEST = 200
"""Fewer calls than this cannot be all."""

Shown = dict[str, dict[bytes, object]]


@dataclass
class Ground:
    """A data root to be copied, with all that its layers show."""

    folder: Path
    template: Path
    source: str
    target: str
    old: OldSide
    before: Shown

    def copy(self) -> Path:
        made = Path(tempfile.mkdtemp(dir=self.folder))
        subprocess.run(["cp", "--archive", f"{self.template}/.", str(made)], check=True)
        return made

    def command(self, root: Path) -> list[str]:
        sides = ["--from", f"py-{self.source}", "--to", f"py-{self.target}"]
        return [sys.executable, "-m", "graphdriver", "migrate", str(root), *sides, "--yes"]

    def run(self, root: Path, *first: str) -> subprocess.CompletedProcess[str]:
        """Migrate, perhaps under another program."""
        command = [*first, *self.command(root)]
        return subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=120
        )

    def shown(self, there: Side) -> Shown:
        return shown(there, self.old.layers)


def write_in_container(tree: Path) -> None:
    (tree / "etc/passwd").write_text("root:x:0:0::/:/bin/bash\n")
    (tree / "etc/new").unlink()
    (tree / "log").write_bytes(b"y" * 10_000)


@pytest.fixture(params=[("overlay2", "erofs"), ("erofs", "overlay2")], ids=" to ".join)
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    source, target = request.param
    with tempfile.TemporaryDirectory(prefix="gdk-", dir="/dev/shm") as directory:
        template = Path(directory, "template")
        template.mkdir()
        root = DockerRoot(template, f"py-{source}")
        old = OldSide(side(template, source))
        with driving(old.side) as driver:
            old.image(driver, "base", "", BASE)
            old.image(driver, "top", "base", TOP)
            for id, parent, write in (
                ("w-init", "top", lambda tree: (tree / ".dockerenv").touch()),
                ("w", "w-init", write_in_container),
            ):
                old.written(driver, id, parent, LayerKind.CONTAINER, write)
        diff_ids = [one.known.diff_id for one in old.layers if one.known]
        root.layer("base", diff_ids[:1])
        root.layer("top", diff_ids)
        root.image_of(diff_ids, "image:1")
        root.container(CONTAINER, "one", "w", diff_ids)
        Path(template, "volumes").mkdir()
        Path(template, "volumes/metadata.db").touch()
        yield Ground(Path(directory), template, source, target, old, shown(old.side, old.layers))


def calls_of(ground: Ground) -> list[strace.Call]:
    """Migrate once; return all calls that change something."""
    trace = strace.Trace()
    with tempfile.TemporaryDirectory() as folder:
        done = ground.run(ground.copy(), *strace.start_traced(folder))
        assert done.returncode == 0, done.stderr
        trace.read(folder, besides=Path("/nowhere"))
    calls = trace.calls[min(trace.calls)]
    assert len(calls) > FEWEST
    return calls


def expect_one_side_whole(ground: Ground, root: Path) -> None:
    source, target = side(root, ground.source), side(root, ground.target)
    if os.path.isdir(source.home):
        assert ground.shown(source) == ground.before
    elif os.path.isdir(target.home):
        assert ground.shown(target) == ground.before
    else:
        assert is_blocked(source.home)
        assert is_blocked(target.home)


def expect_moved(ground: Ground, root: Path) -> None:
    source, target = side(root, ground.source), side(root, ground.target)
    assert ground.shown(target) == ground.before
    assert os.path.isdir(target.records)
    for path in (source.home, source.records):
        assert not os.path.lexists(path), path
    assert [*root.glob(f"{NAME}/*")] == []
    config = json.loads((root / "containers" / CONTAINER / "config.v2.json").read_text())
    assert config["Driver"] == target.name


def test_a_kill_at_any_call(ground: Ground) -> None:
    calls = calls_of(ground)
    step = max(1, len(calls) // POINTS)
    reached = 0
    for call in calls[step - 1 :: step]:
        root = ground.copy()
        killed = ground.run(root, *strace.killed_at(call))
        reached += killed.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        inside = os.fsencode(root)
        assert [one for one in mount_points() if one.point.startswith(inside)] == [], call
        journal = root / NAME / "journal.json"
        if journal.exists() or os.path.isdir(side(root, ground.source).home):
            expect_one_side_whole(ground, root)
            done = ground.run(root)
            assert done.returncode == 0, (call, done.stderr)
        expect_moved(ground, root)
        shutil.rmtree(root)
    assert reached
