"""Who swaps folders for links while a layer is worked on gets nothing outside written, read or deleted.

CVE-2018-15664, and CVE-2025-47290 where not the archive but another process changes the way. The
swapper is a process that exchanges names, again and again, as fast as it can: a folder and a file of
the layer for links to the canary. What each of our operations withstands, a plain program that does
the same by path does not; that is tried too, so that these tests can fail.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.errors import GraphDriverError
from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.pack import pack
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.tree_copy import copy_tree
from graphdriver.layer.tree.walk import walk
from graphdriver.layer.unpack import unpack
from graphdriver.layer.write.form import Form
from graphdriver.layer.write.plain_tree import PlainTree
from tests.layer.hostile.ground import content_of, opened
from tests.layer.listed import changes
from tests.support.canary import SECRET, Canary
from tests.support.unfiltered_tars import unfiltered

SECONDS, ENOUGH = 2.0, 11
"""How long, and how often to a good end, ours is tried at least."""
PATIENCE = 400.0
"""How long a careless program is given to be caught; it takes a fraction of a second."""

_SWAPPER = """
import ctypes, itertools, os, sys
names = [os.fsencode(name) for name in sys.argv[1:]]
swaps = list(zip(names[::3], names[1::3], names[2::3]))
exchange = ctypes.CDLL(None).renameat2
print(flush=True)
for number in itertools.count():
    for one, other, target in swaps:
        for _ in range(20):
            exchange(-100, one, -100, other, 2)
        if not os.path.islink(one) and not os.path.islink(other):
            try:
                os.rename(other, other + b".%d" % number)
                os.symlink(target, other)
            except OSError:
                pass
"""
"""Of each three arguments the first two are exchanged; the second is made a link to the third again if
somebody has removed that."""

OUT = "../../canary"
OUT_OF_THE_ROOT = "../canary/secret"
"""Links as they must be where they are swapped to. The kernel stops absolute ones for more reasons."""

LAYER = tars.tar(
    tars.directory(b"d"),
    *[tars.directory(b"d/e", mode=0o777, uid=666)] * 20,
    tars.file(b"f", b"owned", mode=0o4777),
    tars.file(b"d/e/secret", b"owned", mode=0o4777),
    tars.directory(b"d/e/folder", mode=0o777, uid=666),
    tars.file(b"d/e/folder/file", b"owned"),
    tars.symlink(b"d/e/link", b"elsewhere"),
    tars.header(b"d/e/fifo", b"6", mode=0o777, uid=666),
    tars.header(b"d/e/device", b"3", mode=0o777, uid=666, device=(1, 5)),
    tars.hard_link(b"h", b"d/e/secret"),
    tars.hard_link(b"d/e/twin", b"h"),
    tars.file(b"d/e/new", b"owned"),
    tars.whiteout(b"d/e/.wh.secret"),
    tars.whiteout(b"d/e/folder/.wh..wh..opq"),
    tars.whiteout(b"d/e/.wh..wh..opq"),
)
"""What would be noticed of the canary, wherever it slips through: its own names, of every kind."""


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary.hatch(tmp_path / "canary")


@pytest.fixture
def tree(tmp_path: Path, canary: Canary) -> Iterator[Path]:
    """A layer of which a folder, and a file, are swapped for links to the canary all the time."""
    root = tmp_path / "tree"
    build(root)
    (root / "d" / "swapped").symlink_to(OUT)
    (root / "d" / "exchanged").symlink_to(OUT_OF_THE_ROOT)
    with swapper(
        (root / "d" / "e", root / "d" / "swapped", OUT),
        (root / "f", root / "d" / "exchanged", OUT_OF_THE_ROOT),
    ):
        yield root


def build(root: Path) -> None:
    (root / "d" / "e" / "folder" / "deeper").mkdir(parents=True)
    for name in ("f", "d/e/secret", "d/e/twin", "d/e/folder/file", "d/e/folder/deeper/file"):
        (root / name).write_bytes(b"the layer's own")


@contextlib.contextmanager
def swapper(*swaps: tuple[Path, Path, str]) -> Iterator[None]:
    """Exchange a name with a link to something, as long as this lasts."""
    program = [sys.executable, "-c", _SWAPPER, *[str(name) for swap in swaps for name in swap]]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()


def again_and_again(work: Callable[[], object]) -> None:
    """Work against the swapper for a while, and until that has come to a good end often enough."""
    began = time.monotonic()
    times = 0
    while times < ENOUGH or time.monotonic() < began + SECONDS:
        assert time.monotonic() < began + PATIENCE, f"{times} of {ENOUGH} good ends"
        with contextlib.suppress(GraphDriverError, OSError):
            work()
            times += 1


def until(caught: Callable[[], bool], work: Callable[[], object]) -> None:
    """Work against the swapper until that has done harm."""
    end = time.monotonic() + PATIENCE
    while not caught():
        assert time.monotonic() < end, "nothing came of it"
        with contextlib.suppress(GraphDriverError, OSError):
            work()


# Ours.


@pytest.mark.parametrize("form", [PlainTree, UpperDirectory])
def test_unpacking_never_gets_outside(canary: Canary, tree: Path, form: type[Form]) -> None:
    with canary.unharmed(), opened(tree) as root:
        again_and_again(lambda: unpack(io.BytesIO(LAYER), root, form=form))


def test_packing_never_reads_outside(canary: Canary, tree: Path) -> None:
    packed: list[bytes] = []

    def work() -> None:
        stream = pack(root, None)
        try:
            while piece := stream.read(1 << 20):
                packed.append(piece)
        finally:
            stream.close()

    with canary.unharmed(), opened(tree) as root:
        again_and_again(work)
    assert b"the layer's own" in b"".join(packed)
    assert SECRET not in b"".join(packed)


def test_comparing_never_reads_outside(canary: Canary, tree: Path, tmp_path: Path) -> None:
    build(tmp_path / "lower")
    with canary.unharmed(), opened(tree) as upper, opened(tmp_path / "lower") as lower:
        again_and_again(lambda: changes(upper, lower))
        again_and_again(lambda: changes(lower, upper))


def test_copying_never_reads_outside(canary: Canary, tree: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()

    def work() -> None:
        copy = copies / str(len(os.listdir(copies)))
        copy.mkdir()
        with opened(copy) as target:
            copy_tree(source, target)

    with canary.unharmed(), opened(tree) as source:
        again_and_again(work)
    with opened(copies) as root:
        assert SECRET not in b"".join(content_of(root).values())
    assert (copies / "0" / "d").is_dir()


def test_walking_never_gets_outside(canary: Canary, tree: Path) -> None:
    seen: set[bytes] = set()
    with canary.unharmed(), opened(tree) as root:
        again_and_again(lambda: seen.update(node.path for node in walk(root)))
    assert b"d/e/folder/deeper/file" in seen
    assert b"d/e/device" not in seen


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A way to make, again and again, a tree that is swapped as soon as it is there."""
    tree, staged = tmp_path / "tree", tmp_path / "staged"

    def make() -> None:
        with opened(tmp_path) as folder:
            remove_tree(folder, b"tree")
            remove_tree(folder, b"staged")
        build(staged)
        for number in range(100):  # to remove them takes a while
            (staged / "d" / "e" / str(number)).touch()
        (staged / "swapped").symlink_to(OUT)
        staged.rename(tree)

    with swapper((tree / "d" / "e", tree / "swapped", OUT)):
        yield make


def test_removing_never_deletes_outside(
    canary: Canary, doomed: Callable[[], None], tmp_path: Path
) -> None:
    def work() -> None:
        doomed()
        remove_tree(folder, b"tree")

    with canary.unharmed(), opened(tmp_path) as folder:
        again_and_again(work)


# The same by path.


def test_a_plain_extraction_writes_outside(canary: Canary, tree: Path) -> None:
    inside = tars.tar(*[tars.file(b"d/e/%d" % n, b"owned") for n in range(50)])

    def work() -> None:
        with tarfile.open(fileobj=io.BytesIO(inside)) as archive:
            unfiltered(archive).extractall(tree)

    until((canary.root / "1").exists, work)
    assert (canary.root / "1").exists()


def test_a_plain_reading_reads_outside(tree: Path) -> None:
    found: list[bytes] = []

    def work() -> None:
        for folder, _, names in os.walk(tree):
            for name in names:
                path = os.path.join(folder, name)
                if not os.path.islink(path) and os.path.isfile(path):
                    with open(path, "rb") as file:
                        found.append(file.read())

    until(lambda: SECRET in found, work)
    assert SECRET in found


def test_a_plain_removal_deletes_outside(
    canary: Canary, doomed: Callable[[], None], tmp_path: Path
) -> None:
    def remove(path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            time.sleep(0.002)  # where both processors are busy, the swapper has its turn only here
            for name in sorted(os.listdir(path)):  # "swapped" last
                with contextlib.suppress(FileNotFoundError):
                    remove(os.path.join(path, name))
            os.rmdir(path)
        else:
            os.unlink(path)

    def work() -> None:
        doomed()
        remove(str(tmp_path / "tree"))

    until(lambda: not (canary.root / "secret").exists(), work)
    assert not (canary.root / "secret").exists()
