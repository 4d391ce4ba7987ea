"""Trees that hypothesis makes up, with everything that a layer can hold."""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from graphdriver.layer.tree.walk import walk
from graphdriver.linux import xattr
from graphdriver.linux.regular_file import open_regular

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
KINDS = ("file", "file", "sparse", "folder", "folder", "symlink", "fifo", "char", "block", "link")


@dataclass(frozen=True)
class Thing:
    """One thing of a tree, before it is made.

    Attributes:
        path: where; folders that are missing are made.
        kind: one of `KINDS`; ``link`` is a hard link to the last thing that can have one.
        data: a file's content, a link's text.
        number: of a device; where a hole ends.
    """

    path: tuple[bytes, ...]
    kind: str
    data: bytes
    number: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: dict[bytes, bytes]


NAMES = st.one_of(
    st.sampled_from([b"a", b"b", b"c", b"d"]),
    st.sampled_from(
        [b"\xff", b"\n", b" ", "\u00e9".encode(), b".wh", b"..x", b"=", b"x" * 120, b"-rf", b"\\n"]
    ),
)
IDS = st.sampled_from([0, 0, 1, 1000, (1 << 21) - 1, 1 << 21, 1 << 31, (1 << 32) - 2])
WHOLE_SECONDS = (0, 1_600_000_000)
# A whole second and a time within it are the same time to who compares two trees.
TIMES = st.one_of(
    st.sampled_from([*[n * 10**9 for n in WHOLE_SECONDS], 1_234_567_890_123_456_789]),
    st.integers(-(1 << 33) * 10**9, (1 << 34) * 10**9).filter(
        lambda time: time % 10**9 and time // 10**9 not in WHOLE_SECONDS
    ),
)
XATTRS = st.dictionaries(
    st.sampled_from([b"trusted.a", b"trusted.a=b", b"trusted.\xc3\xa9 %41", b"trusted.overlay"]),
    st.sampled_from([b"", b"value", b"\0\xff=\n", b"x" * 300]),
    max_size=2,
)
THINGS = st.builds(
    Thing,
    st.lists(NAMES, min_size=1, max_size=4).map(tuple),
    st.sampled_from(KINDS),
    st.binary(max_size=600) | st.sampled_from([b"x" * 700, b"t" * 99, b"t" * 100, b"t" * 101]),
    st.integers(0, 0xFFFFF),
    st.integers(0, 0o7777),
    IDS,
    IDS,
    TIMES,
    XATTRS,
)
TREES = st.lists(THINGS, max_size=9)


def make(root: Path, things: list[Thing]) -> None:
    """Make things, one after the other; what is in the way of one is left, and it is passed over."""
    base = os.fsencode(root)
    made: list[tuple[bytes, Thing]] = []
    linkable = b""
    for thing in things:
        path = b"/".join((base, *thing.path))
        if not _made_way(base, thing.path[:-1]) or os.path.lexists(path):
            continue
        if thing.kind == "link":
            if linkable:
                os.link(linkable, path, follow_symlinks=False)
            continue
        _make(path, thing)
        made.append((path, thing))
        if thing.kind != "folder":
            linkable = path
    for path, thing in made:
        _dress(path, thing)
    for path, thing in reversed(made):
        os.utime(path, ns=(thing.mtime_ns, thing.mtime_ns), follow_symlinks=False)


def _made_way(path: bytes, parts: tuple[bytes, ...]) -> bool:
    for part in parts:
        path += b"/" + part
        if not os.path.lexists(path):
            os.mkdir(path)
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return False
    return True


def _make(path: bytes, thing: Thing) -> None:
    match thing.kind:
        case "folder":
            os.mkdir(path)
        case "symlink":
            os.symlink(thing.data[:600].replace(b"\0", b"/") or b"t", path)
        case "fifo":
            os.mkfifo(path)
        case "char":
            os.mknod(path, stat.S_IFCHR, os.makedev(1 + thing.number % 4095, thing.number))
        case "block":
            os.mknod(path, stat.S_IFBLK, os.makedev(thing.number % 4096, thing.number))
        case _:
            with open(path, "wb") as file:
                file.write(thing.data)
                if thing.kind == "sparse":
                    file.truncate(thing.number)
                    file.seek(thing.number)
                    file.write(thing.data)


def _dress(path: bytes, thing: Thing) -> None:
    os.chown(path, thing.uid, thing.gid, follow_symlinks=False)
    if thing.kind != "symlink":
        os.chmod(path, thing.mode)
    for name, value in thing.xattrs.items():
        os.setxattr(path, name, value, follow_symlinks=False)
    if thing.kind == "file" and thing.number % 5 == 0:
        os.setxattr(path, "security.capability", CAPABILITY)


def recorded(root: int) -> dict[bytes, object]:
    """Return all that a layer must keep of a tree, by name; the root's is empty."""
    found: dict[bytes, object] = {b"": (_metadata(os.fstat(root)), xattr.get_all(root))}
    first: dict[int, bytes] = {}
    for node in walk(root):
        content = b""
        if stat.S_ISREG(node.stat.st_mode):
            with open(open_regular(node.parent_fd, node.name), "rb") as file:
                content = file.read()
        elif stat.S_ISLNK(node.stat.st_mode):
            content = os.readlink(node.name, dir_fd=node.parent_fd)
        found[node.path] = (
            _metadata(node.stat),
            xattr.get_all_at(node.parent_fd, node.name),
            content,
            first.setdefault(node.stat.st_ino, node.path),
        )
    return found


def _metadata(found: os.stat_result) -> tuple[int, ...]:
    """Return mode, owners, device and time."""
    device = found.st_rdev if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode) else 0
    return (found.st_mode, found.st_uid, found.st_gid, device, found.st_mtime_ns)
