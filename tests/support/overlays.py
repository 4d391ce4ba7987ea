"""Real overlay mounts for tests, and a way to change a tree at random."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from graphdriver.linux.mount import MNT_DETACH, mount_with, unmount

OPTIONS = (("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow"))


@contextlib.contextmanager
def mounted_overlay(
    folder: Path,
    lowers: Sequence[Path],
    upper: Path | None = None,
    options: Sequence[tuple[str, str]] = OPTIONS,
) -> Iterator[Path]:
    """Mount directories on each other, the nearest of ``lowers`` first; read-only without an upper."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        target = Path(work, "merged")
        target.mkdir()
        settings = [("source", "overlay"), *(("lowerdir+", str(one)) for one in lowers)]
        if upper:
            Path(work, "work").mkdir()
            settings += [("upperdir", str(upper)), ("workdir", f"{work}/work")]
        elif len(lowers) == 1:
            (Path(work) / "none").mkdir()
            settings.append(("lowerdir+", f"{work}/none"))
        fd = os.open(target, os.O_PATH | os.O_DIRECTORY)
        mount_with("overlay", [*settings, *options], 0, fd)
        os.close(fd)
        try:
            yield target
        finally:
            unmount(str(target), MNT_DETACH)


@contextlib.contextmanager
def opened(*folders: Path) -> Iterator[list[int]]:
    """Open directories for the length of a ``with`` block."""
    fds = [os.open(one, os.O_RDONLY | os.O_DIRECTORY) for one in folders]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


@dataclass(frozen=True)
class Edit:
    """One change of a tree; what cannot be done there is not done."""

    what: str
    path: str
    other: str
    number: int

    def do(self, root: Path) -> None:
        with contextlib.suppress(OSError):
            self._do(root / self.path, root / self.other)

    def _do(self, at: Path, other: Path) -> None:
        if at.is_fifo() and self.what in ("write", "rewrite", "open", "replace"):
            return  # it would wait for a reader
        match self.what:
            case "write":
                at.write_text("x" * (self.number % 3))
            case "rewrite":  # as long as it was and at the same time: only its content tells
                before = at.stat()
                at.write_text(str(self.number) * before.st_size)
                os.utime(at, ns=(before.st_atime_ns, before.st_mtime_ns))
            case "open":  # copies a file up, and changes nothing
                at.open("r+").close()
            case "mkdir":
                at.mkdir()
            case "remove":
                shutil.rmtree(at) if at.is_dir() and not at.is_symlink() else at.unlink()
            case "replace":
                shutil.rmtree(at)
                at.mkdir()
            case "symlink":
                at.symlink_to(self.other)
            case "link":
                os.link(at, other)
            case "rename":
                at.rename(other)
            case "chmod":
                at.chmod(0o700 + self.number % 8)
            case "chown":
                os.chown(at, self.number, 0)
            case "xattr":
                os.setxattr(at, "user.a", bytes([self.number]))
            case "fifo":
                os.mkfifo(at)
            case _:
                raise AssertionError(self.what)


KINDS = (
    *("write", "write", "mkdir", "mkdir", "remove", "replace", "rewrite", "open", "symlink"),
    *("link", "rename", "chmod", "chown", "xattr", "fifo"),
)
EDITS = st.lists(
    st.builds(Edit, st.sampled_from(KINDS), NAMES, NAMES, st.integers(0, 9)), max_size=25
)
