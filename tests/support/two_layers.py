"""Two layers as tars, one on the other, and the same made by hand."""

from __future__ import annotations

import os
from pathlib import Path

from graphdriver.conformance.plugin import tars

TIME = 1_000_000_000
TAR_A = tars.tar(
    tars.directory(b"etc", mtime=TIME),
    tars.file(b"etc/passwd", b"root:x:0:0::/:/bin/sh\n", mtime=TIME),
    tars.directory(b"bin", mode=0o2750, gid=7, mtime=TIME),
    tars.file(b"bin/tool", b"#!/bin/sh\n" * 50, mode=0o4755, uid=1000, gid=1001, mtime=TIME),
    tars.hard_link(b"again", b"bin/tool"),
    tars.symlink(b"link", b"etc/passwd", mtime=TIME),
    tars.pax([(b"SCHILY.xattr.trusted.note", b"a note")]),
    tars.file(b"noted", b"noted", mtime=TIME),
    tars.header(b"pipe", b"6", mode=0o620, mtime=TIME),
    tars.directory(b"gone", mtime=TIME),
    tars.file(b"gone/below", b"below", mtime=TIME),
    tars.file(b"old", b"old", mtime=TIME),
)
TAR_B = tars.tar(
    tars.whiteout(b".wh.old"),
    tars.directory(b"gone", mtime=TIME + 1),
    tars.whiteout(b"gone/.wh..wh..opq"),
    tars.file(b"gone/above", b"above", mtime=TIME),
    tars.hard_link(b"passwd", b"etc/passwd"),
    tars.file(b"etc/hosts", b"127.0.0.1 localhost\n", mtime=TIME),
)


def write_into_a(root: str) -> None:
    """Make the content of `TAR_A` by hand."""
    at = Path(root)
    for name in ("etc", "bin", "gone"):
        (at / name).mkdir()
    (at / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (at / "bin/tool").write_text("#!/bin/sh\n" * 50)
    (at / "noted").write_text("noted")
    (at / "gone/below").write_text("below")
    (at / "old").write_text("old")
    os.chown(at / "bin", 0, 7)
    os.chmod(at / "bin", 0o2750)
    os.chown(at / "bin/tool", 1000, 1001)
    os.chmod(at / "bin/tool", 0o4755)
    os.link(at / "bin/tool", at / "again")
    (at / "link").symlink_to("etc/passwd")
    os.setxattr(at / "noted", "trusted.note", b"a note")
    os.mkfifo(at / "pipe")
    os.chmod(at / "pipe", 0o620)
    for path in at.rglob("*"):
        set_time(path, TIME)


def write_into_b(root: str) -> None:
    """Make the changes of `TAR_B` by hand, on a copy of `write_into_a`'s tree."""
    at = Path(root)
    (at / "old").unlink()
    (at / "gone/below").unlink()
    (at / "gone/above").write_text("above")
    os.link(at / "etc/passwd", at / "passwd")
    (at / "etc/hosts").write_text("127.0.0.1 localhost\n")
    for name in ("etc/hosts", "gone/above", "etc"):
        set_time(at / name, TIME)
    set_time(at / "gone", TIME + 1)


def set_time(path: Path, seconds: int) -> None:
    """Give a file its time of change."""
    os.utime(path, (seconds, seconds), follow_symlinks=False)
