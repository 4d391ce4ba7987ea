"""What differs between two trees, as Docker tells it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from graphdriver.layer.change_list import changed_size
from graphdriver.layer.changes import compare as compare_trees
from tests.layer.listed import changes

FOLDER = os.O_RDONLY | os.O_DIRECTORY


def compare(upper: Path, lower: Path | None, untouched: int | None = None) -> list[str]:
    upper_fd = os.open(upper, FOLDER)
    lower_fd = os.open(lower, FOLDER) if lower else None
    try:
        found = changes(upper_fd, lower_fd, untouched_before_ns=untouched)
        return [f"{'CAD'[change.kind]} {change.path}" for change in found]
    finally:
        os.close(upper_fd)
        if lower_fd is not None:
            os.close(lower_fd)


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """A parent, and a child that is a faithful copy."""
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    (lower / "d" / "sub").mkdir(parents=True)
    (lower / "d" / "f").write_bytes(b"12345")
    (lower / "d" / "sub" / "g").write_bytes(b"g")
    (lower / "link").symlink_to("d")
    (lower / "file").write_bytes(b"x")
    subprocess.run(["cp", "-a", str(lower), str(upper)], check=True)
    return lower, upper


def test_a_copy_differs_in_nothing(trees: tuple[Path, Path]) -> None:
    lower, upper = trees
    assert compare(upper, lower) == []


def write(path: Path, data: bytes) -> None:
    """Write, and put the times back."""
    times = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "in").touch()


def to_file(path: Path) -> None:
    shutil.rmtree(path)
    path.touch()


def relink(path: Path) -> None:
    found = path.lstat()
    path.unlink()
    path.symlink_to("e")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda u: (u / "d" / "new").touch(), ["C /d", "A /d/new"]),
        (lambda u: (u / "d" / "f").unlink(), ["C /d", "D /d/f"]),
        (lambda u: shutil.rmtree(u / "d"), ["D /d"]),
        (lambda u: write(u / "d" / "f", b"54321"), ["C /d", "C /d/f"]),
        (lambda u: write(u / "d" / "sub" / "g", b"longer"), ["C /d", "C /d/sub", "C /d/sub/g"]),
        (lambda u: os.chmod(u / "d", 0o700), ["C /d"]),
        (lambda u: os.chown(u / "file", 5, 0), ["C /file"]),
        (lambda u: os.setxattr(u / "file", "user.x", b"1"), ["C /file"]),
        (lambda u: os.setxattr(u / "d", "user.x", b"1"), ["C /d"]),
        (lambda u: os.setxattr(u / "d", "trusted.overlay.opaque", b"y"), []),
        (lambda u: os.utime(u / "d", ns=(0, 0)), []),
        (lambda u: os.utime(u / "file", ns=(0, 0)), ["C /file"]),
        (lambda u: os.utime(u, ns=(0, 0)), []),
        (lambda u: os.chmod(u, 0o700), []),
        (lambda u: to_folder(u / "file"), ["C /file", "A /file/in"]),
        (lambda u: to_file(u / "d"), ["C /d"]),
        (lambda u: relink(u / "link"), ["C /link"]),
    ],
)
def test_each_change_is_told_as_docker_tells_it(
    trees: tuple[Path, Path], change: Callable[[Path], object], told: list[str]
) -> None:
    lower, upper = trees
    change(upper)
    assert compare(upper, lower) == told


def test_everything_is_added_to_nothing(trees: tuple[Path, Path]) -> None:
    assert compare(trees[1], None) == [
        "A /d",
        "A /d/f",
        "A /d/sub",
        "A /d/sub/g",
        "A /file",
        "A /link",
    ]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (5_000_000_001, 5_000_000_002, False),
        (5_000_000_000, 5_999_999_999, True),
        (5_000_000_000, 6_000_000_000, False),
    ],
)
def test_two_times_are_equal_within_a_second_if_either_has_no_nanoseconds(
    trees: tuple[Path, Path], one: int, other: int, same: bool
) -> None:
    lower, upper = trees
    os.utime(lower / "file", ns=(0, one))
    os.utime(upper / "file", ns=(0, other))
    assert compare(upper, lower) == ([] if same else ["C /file"])


def test_a_file_that_was_not_touched_since_the_copy_is_not_read(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lower, upper = trees

    def fail(*_: object) -> bool:
        raise AssertionError("a file was read")

    monkeypatch.setattr("graphdriver.layer.changes._same_file", fail)
    later = (upper / "file").stat().st_ctime_ns + 1_000_000_000
    assert compare(upper, lower, untouched=later) == []
    with pytest.raises(AssertionError, match="was read"):
        compare(upper, lower, untouched=(upper / "file").stat().st_ctime_ns)


def test_sizes_count_each_inode_once_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(1000))
    os.link(tmp_path / "f", tmp_path / "g")
    (tmp_path / "l").symlink_to("1234567")
    fd = os.open(tmp_path, FOLDER)
    try:
        assert changed_size(compare_trees(fd, None)) == 1007
    finally:
        os.close(fd)


def test_exabytes_of_holes_are_compared_in_no_time(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        trees = [Path(folder, name) for name in ("lower", "upper")]
        for tree in trees:
            tree.mkdir()
            for name in ("same", "other"):
                with open(tree / name, "wb") as file:
                    file.truncate(1 << 60)
                    os.pwrite(file.fileno(), b"island", 1 << 59)
        with open(trees[1] / "other", "r+b") as file:
            os.pwrite(file.fileno(), b"more", (1 << 60) - 4)
        for tree in trees:
            for name in ("same", "other"):
                os.utime(tree / name, ns=(1, 1))
        assert compare(trees[1], trees[0]) == ["C /other"]
