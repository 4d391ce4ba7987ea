"""A directory tree with everything that a layer can hold, edits of it, and records to compare."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import NamedTuple

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""vfs_cap_data, revision 2: cap_net_bind_service, effective and permitted."""

ODD_NAMES = (
    b"-rf",
    b" ",
    b"a\nb",
    b"back\\slash",
    "café".encode(),
    b"\xff\xfe",
    b"x" * 255,
    b"..not-up",
    b"a=b\t:*?",
)
_TIME = 1_234_567_890_123_456_789

_LARGEST_TREE = 512 << 20
"""Bytes of content and paths that `record` holds in memory at most."""

LONG = 252
"""From how many bytes on the name of a whiteout, ``.wh.`` before it, is too long for a file's."""


class Facts(NamedTuple):
    """The attributes of one path that a layer must keep; ``file`` is the file's first path."""

    mode: str
    uid: int
    gid: int
    device: int
    mtime_ns: int
    attributes: dict[str, bytes]
    content: bytes
    file: bytes


def build(root: str) -> None:
    """Fill a directory with every type of entry."""
    at = Path(root)
    (at / "etc").mkdir()
    (at / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (at / "etc" / "empty").touch()
    (at / "etc" / "empty-directory").mkdir(mode=0o700)
    (at / "big").write_bytes(bytes(range(256)) * 1500)
    with open(at / "holes", "wb") as file:
        file.truncate(1 << 20)
        file.seek(300_000)
        file.write(b"island")
    (at / "link").symlink_to("etc/passwd")
    (at / "dangling").symlink_to("/no/where/" + "far/" * 60)
    (at / "hard").mkdir()
    os.link(at / "big", at / "hard" / "again")
    os.link(at / "link", at / "hard" / "link", follow_symlinks=False)
    (at / "devices").mkdir()
    os.mknod(at / "devices" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(at / "devices" / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
    os.mkfifo(at / "devices" / "fifo", 0o620)
    (at / "odd").mkdir()
    for name in ODD_NAMES:
        with open(os.path.join(os.fsencode(at), b"odd", name), "wb") as odd:
            odd.write(name)
    deep = at / "deep"
    deep.mkdir()
    for _ in range(20):
        deep /= "d" * 40
        deep.mkdir()
    (deep / "file").write_bytes(b"deep down")
    (at / "tmp").mkdir()
    (at / "bin").mkdir()
    for program in ("su", "wall", "ping"):
        (at / "bin" / program).write_text(program)
    _set_attributes(at)


def _set_attributes(at: Path) -> None:
    """Set owners, then modes, then attributes, then times: each changes some of the later ones."""
    os.chown(at / "etc" / "empty", 1000, 1001)
    os.chown(at / "link", 1000, 1001, follow_symlinks=False)
    os.chown(at / "bin" / "wall", 0, 5)
    os.chown(at / "odd", 4_000_000, 3_000_000)
    os.chmod(at / "tmp", 0o1777)
    os.chmod(at / "bin", 0o2751)
    os.chmod(at / "bin" / "su", 0o4755)
    os.chmod(at / "bin" / "wall", 0o2711)
    os.chmod(at / "devices" / "null", 0o666)
    os.chmod(at / "devices" / "disk", 0o606)
    os.setxattr(at / "bin" / "ping", "security.capability", CAPABILITY)
    os.setxattr(at / "bin" / "ping", "trusted.note", b"\0\xffbytes=\n")
    os.setxattr(at / "etc", "trusted.directory", b"yes")
    for number, path in enumerate(sorted(at.rglob("*"), reverse=True)):
        times = _TIME + number * 1_000_000_007, _TIME - number * 1_000_000_007
        os.utime(path, ns=times, follow_symlinks=False)
    os.utime(at / "etc" / "empty", ns=(0, -1_500_000_000))


def edit(at: Path) -> None:
    """Change the tree of `build` in every possible way.

    Devices, and names of `LONG` bytes and more, are kept: some drivers cannot delete them.
    """
    (at / "etc" / "passwd").unlink()
    remove(at / "deep")
    remove(at / "etc" / "empty-directory")
    (at / "etc" / "empty-directory").write_text("a file where a directory was")
    (at / "link").unlink()
    (at / "link").mkdir()
    (at / "link" / "inside").write_text("a directory where a link was")
    for name in ODD_NAMES:
        if len(name) < LONG:
            os.unlink(os.path.join(os.fsencode(at), b"odd", name))
    (at / "odd" / "new").write_text("a directory that lost all but one, and got another")
    os.chmod(at / "tmp", 0o755)
    os.chown(at / "bin" / "wall", 7, 8)
    os.removexattr(at / "bin" / "ping", "security.capability")
    os.setxattr(at / "etc", "trusted.directory", b"no")
    (at / "hard" / "new").write_text("x")
    os.link(at / "hard" / "new", at / "hard" / "new2")


def remove(directory: Path) -> None:
    """Remove a directory of the case's own with its content."""
    for inner in sorted(directory.rglob("*"), reverse=True):
        if inner.is_dir() and not inner.is_symlink():
            inner.rmdir()
        else:
            inner.unlink()
    directory.rmdir()


def record(root: str) -> dict[bytes, Facts]:
    """Return the attributes that a layer must keep, by path, without the root itself.

    Raises:
        ValueError: the tree is larger than that of any case.
    """
    found: dict[bytes, Facts] = {}
    left = _LARGEST_TREE
    inodes: dict[bytes, tuple[int, int]] = {}
    pending = [os.fsencode(root)]
    start = len(pending[0]) + 1
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                entry_stat = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    left -= entry_stat.st_size
                left -= len(entry.path)
                if left < 0:
                    raise ValueError(f"the tree takes over {_LARGEST_TREE >> 20} MiB to record")
                found[entry.path[start:]] = _facts(entry.path, entry_stat)
                inodes[entry.path[start:]] = entry_stat.st_dev, entry_stat.st_ino
    first: dict[tuple[int, int], bytes] = {}
    return {
        path: found[path]._replace(file=first.setdefault(inodes[path], path))
        for path in sorted(found)
    }


def _facts(path: bytes, found: os.stat_result) -> Facts:
    content: bytes = b""
    if stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:
            content = file.read(found.st_size)
    elif stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    attributes = {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }
    return Facts(
        oct(found.st_mode),
        found.st_uid,
        found.st_gid,
        found.st_rdev,
        found.st_mtime_ns,
        attributes,
        content,
        path,
    )
