"""Random trees and random work in them, and what changed by looking at everything."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from graphdriver.layer.changes import CLOCK_TICK_NS

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

Facts = tuple[object, ...]


def facts_of(root: Path) -> dict[str, tuple[int, Facts]]:
    """Return, for each path, its time and all else that counts."""
    found: dict[str, tuple[int, Facts]] = {}
    todo = [root]
    while todo:
        for path in todo.pop().iterdir():
            seen = path.lstat()
            attributes = {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            }
            facts: Facts = (seen.st_mode, seen.st_uid, seen.st_gid, attributes)
            time = 0
            if stat.S_ISDIR(seen.st_mode):
                todo.append(path)
            else:
                time = seen.st_mtime_ns
                facts += (seen.st_rdev, seen.st_size)
                if stat.S_ISREG(seen.st_mode):
                    facts += (path.read_bytes(),)
                elif stat.S_ISLNK(seen.st_mode):
                    facts += (path.readlink(),)
            found[str(path.relative_to(root))] = time, facts
    return found


def are_equal_times(one: int, other: int) -> bool:
    if one % 10**9 and other % 10**9:
        return one == other
    return one // 10**9 == other // 10**9


def told_by_looking_at_everything(upper: Path, lower: Path) -> list[str]:
    """Return what Docker's rules of comparing make of two trees, without a single short cut."""
    above, below = facts_of(upper), facts_of(lower)
    told = {}
    for path in above.keys() | below.keys():
        if path not in below:
            told[path] = "A"
        elif path not in above:
            parent = os.path.dirname(path)
            if not parent or (parent in above and stat.S_ISDIR(above[parent][1][0])):  # type: ignore[arg-type]
                told[path] = "D"
        else:
            (time, facts), (former_time, former) = above[path], below[path]
            if facts != former or not are_equal_times(time, former_time):
                told[path] = "C"
    for path in list(told):
        while path := os.path.dirname(path):
            told.setdefault(path, "C")
    parts = sorted(told, key=lambda path: path.encode())
    return [f"{told[path]} /{path}" for path in parts]


def exchange(one: Path, other: Path) -> None:
    done = _libc.renameat2(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _RENAME_EXCHANGE)
    assert done == 0, os.strerror(ctypes.get_errno())


def clock_of(place: Path) -> int:
    """The time of the filesystem's clock: the change time of a file that is written now."""
    (place / "clock").write_bytes(b"")
    return (place / "clock").stat().st_ctime_ns


def pass_a_tick(place: Path) -> None:
    """Go on once nothing that was written before can be of the same tick."""
    began = clock_of(place)
    while clock_of(place) <= began + 2 * CLOCK_TICK_NS:
        pass


def put_times_back(path: Path, found: os.stat_result) -> None:
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)


Work = Callable[[Path, Path, bytes], object]
"""Does something with a path that is there, another one that is there, and some data."""


def a_name_in(folder: Path, data: bytes) -> Path:
    return (folder if folder.is_dir() else folder.parent) / "abc"[len(data) % 3]


def overwrite(path: Path, other: Path, data: bytes) -> None:
    """The same size, and the time is put back: what a tick of the clock or a tool could do too."""
    found = path.stat()
    with open(path, "r+b") as file:
        file.write(data[: found.st_size])
    put_times_back(path, found)


def write_mapped(path: Path, other: Path, data: bytes) -> None:
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        assert mapped[0] >= 0
        mapped[: len(data)] = data[: len(mapped)]


def write_anew(path: Path, other: Path, data: bytes) -> None:
    a_name_in(path, data).write_bytes(data)


def append(path: Path, other: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


def delete(path: Path, other: Path, data: bytes) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def move(path: Path, other: Path, data: bytes) -> None:
    path.rename(a_name_in(other, data))


def move_over(path: Path, other: Path, data: bytes) -> None:
    path.rename(other)


def make_folder(path: Path, other: Path, data: bytes) -> None:
    a_name_in(path, data).mkdir()


def hard_link(path: Path, other: Path, data: bytes) -> None:
    os.link(path, a_name_in(other, data), follow_symlinks=False)


def symlink(path: Path, other: Path, data: bytes) -> None:
    a_name_in(path, data).symlink_to(other.name)


def turn_a_link(path: Path, other: Path, data: bytes) -> None:
    found, to = path.lstat(), path.readlink()
    path.unlink()
    path.symlink_to("b" if str(to) == "a" else "a")
    put_times_back(path, found)


def change_mode(path: Path, other: Path, data: bytes) -> None:
    if not path.is_symlink():
        path.chmod(0o700 | len(data) % 8)


def change_owner(path: Path, other: Path, data: bytes) -> None:
    os.chown(path, len(data), 0, follow_symlinks=False)


def set_attribute(path: Path, other: Path, data: bytes) -> None:
    os.setxattr(path, "trusted.a", data, follow_symlinks=False)


def remove_attribute(path: Path, other: Path, data: bytes) -> None:
    os.removexattr(path, "trusted.a", follow_symlinks=False)


def touch(path: Path, other: Path, data: bytes) -> None:
    os.utime(path, ns=(0, len(data) * 500_000_000), follow_symlinks=False)


def change_places(path: Path, other: Path, data: bytes) -> None:
    with contextlib.suppress(AssertionError):
        exchange(path, other)


WORK: list[Work] = [
    overwrite,
    write_mapped,
    write_anew,
    append,
    delete,
    move,
    move_over,
    make_folder,
    hard_link,
    symlink,
    turn_a_link,
    change_mode,
    change_owner,
    set_attribute,
    remove_attribute,
    touch,
    change_places,
]

NAMES = st.sampled_from("ab")  # few, so that what changes places looks alike
LEAVES = st.sampled_from([b"", b"1" * 5000, b"2" * 5000, "a", "b"])
TREES = st.dictionaries(
    NAMES,
    st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8),
    min_size=1,
    max_size=3,
)
DEEDS = st.lists(
    st.tuples(
        st.sampled_from(WORK),
        st.integers(0, 50),
        st.integers(0, 50),
        st.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=8,
)


def grow(root: Path, tree: dict[str, object]) -> None:
    for name, node in tree.items():
        path = root / name
        if isinstance(node, dict):
            path.mkdir()
            grow(path, node)
        elif isinstance(node, bytes):
            path.write_bytes(node)
        else:
            path.symlink_to(str(node))
        os.utime(path, ns=(0, 1_000_000_001), follow_symlinks=False)


def work(root: Path, deed: tuple[Work, int, int, bytes]) -> None:
    do, one, other, data = deed
    paths = sorted(path for path in root.rglob("*"))
    if paths:
        with contextlib.suppress(OSError, ValueError):
            do(paths[one % len(paths)], paths[other % len(paths)], data)
