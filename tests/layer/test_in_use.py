"""Trees that somebody works in, or against, while they are compared, packed and removed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.errors import BrokenStreamError
from graphdriver.layer.change_list import ChangeList
from graphdriver.layer.changes import CLOCK_TICK_NS, compare
from graphdriver.layer.pack import pack
from graphdriver.layer.tree.directory import Dir
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.walk import walk
from tests.layer.listed import changes

FOLDER = os.O_RDONLY | os.O_DIRECTORY

RESTLESS = """
import os, shutil, sys
os.chdir(sys.argv[1])
while True:
    for n in range(30):
        os.makedirs(f"d{n}/e")
        open(f"d{n}/e/f", "w").write("x")
        os.symlink("f", f"d{n}/e/l")
    os.rename("file", "file2")
    open("file", "w").write("y")
    os.unlink("file2")
    for n in range(30):
        shutil.rmtree(f"d{n}")
        open(f"d{n}", "w").close()
        os.unlink(f"d{n}")
"""


@contextlib.contextmanager
def opened(*paths: Path) -> Iterator[list[int]]:
    fds = [os.open(path, FOLDER) for path in paths]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


@contextlib.contextmanager
def mount(source: Path, target: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", str(source), str(target)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(target)], check=True)


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """A parent, and a child that is a faithful copy."""
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for name in ("one", "two"):
        (lower / name / "sub").mkdir(parents=True)
        (lower / name / "sub" / "f").write_text(name)
        os.utime(lower / name / "sub" / "f", ns=(0, 1_000_000_001))
    (lower / "file").touch()
    subprocess.run(["cp", "-a", str(lower), str(upper)], check=True)
    return lower, upper


def test_files_that_a_renamed_folder_brought_are_not_missed(trees: tuple[Path, Path]) -> None:
    lower, upper = trees
    stamp = (upper / "file").stat().st_ctime_ns + CLOCK_TICK_NS + 1
    while os.stat(lower.parent).st_ctime_ns < stamp + CLOCK_TICK_NS:
        os.chmod(lower.parent, 0o755)  # the clock has to pass the stamp, as in a layer's life
    (upper / "one").rename(upper / "three")
    (upper / "two").rename(upper / "one")
    (upper / "three").rename(upper / "two")
    with opened(upper, lower) as (upper_fd, lower_fd):
        told = [change.path for change in changes(upper_fd, lower_fd, untouched_before_ns=stamp)]
    assert told == ["/one", "/one/sub", "/one/sub/f", "/two", "/two/sub", "/two/sub/f"]


def test_a_tree_in_use_is_compared_and_packed(trees: tuple[Path, Path]) -> None:
    lower, upper = trees
    with (
        opened(upper, lower) as (upper_fd, lower_fd),
        subprocess.Popen([sys.executable, "-c", RESTLESS, str(upper)]) as restless,
    ):
        try:
            for _ in range(60):
                listed = ChangeList(compare(upper_fd, lower_fd))
                for what in (listed, None):
                    stream = pack(upper_fd, what)
                    with contextlib.suppress(BrokenStreamError):
                        while stream.read(1 << 20):
                            pass
                    stream.close()
            assert restless.poll() is None
        finally:
            restless.kill()


def test_a_folder_that_was_removed_meanwhile_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with opened(tmp_path / "d") as (fd,):
        (tmp_path / "d").rmdir()
        assert Dir(fd).names() == []
        assert list(walk(fd)) == []


def test_what_is_mounted_in_a_tree_is_neither_read_nor_removed(tmp_path: Path) -> None:
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.mkdir()
    (outside / "precious").touch()
    (tree / "d" / "mounted").mkdir(parents=True)
    subprocess.run(["cp", "-a", str(tree), str(tmp_path / "copy")], check=True)
    with (
        mount(outside, tree / "d" / "mounted"),
        opened(tmp_path, tree, tmp_path / "copy") as (above, root, copy),
    ):
        assert [node.path for node in walk(root)] == [b"d", b"d/mounted"]
        assert "/d/mounted/precious" not in [change.path for change in changes(root, copy)]
        with pytest.raises(OSError, match="cross-device"):
            remove_tree(above, b"tree")
        assert (outside / "precious").exists()
    with opened(tmp_path) as (above,):
        remove_tree(above, b"tree")
    assert not tree.exists()


def test_a_stream_that_broke_never_ends(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * (1 << 20))
    with opened(tmp_path) as (root,):
        stream = pack(root, None)
    assert stream.read(1)
    os.truncate(tmp_path / "f", 5)
    errors: list[str] = []
    while len(errors) < 3:
        try:
            assert stream.read(1 << 20)
        except BrokenStreamError as error:
            errors.append(str(error))
    stream.close()
    assert len(set(errors)) == 1
