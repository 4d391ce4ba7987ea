"""A tree next to a layer that must be neither changed nor read."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.opens import watched

SECRET = b"the canary sings of what no layer may ever hold"


@dataclass
class Canary:
    """Look at it with `unharmed`; `record` opens its files, which `unharmed` would notice."""

    root: Path

    @classmethod
    def hatch(cls, root: Path) -> Canary:
        """Make one in a directory that does not exist yet."""
        (root / "folder" / "deeper").mkdir(parents=True)
        (root / "secret").write_bytes(SECRET)
        (root / "folder" / "file").write_bytes(SECRET)
        (root / "twin").hardlink_to(root / "secret")
        (root / "link").symlink_to("secret")
        os.mkfifo(root / "fifo")
        os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.setxattr(root / "secret", "user.canary", SECRET)
        return cls(root)

    def record(self) -> dict[str, object]:
        """Return all that can be known of it: inodes, metadata with change times, content."""
        found: dict[str, object] = {}
        for path in self._paths():
            entry = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(entry.st_mode) else None
            found[str(path)] = (
                entry.st_ino,
                entry.st_mode,
                entry.st_uid,
                entry.st_gid,
                entry.st_nlink,
                entry.st_mtime_ns,
                entry.st_ctime_ns,
                content,
                [
                    (name, os.getxattr(path, name, follow_symlinks=False))
                    for name in os.listxattr(path, follow_symlinks=False)
                ],
            )
        return found

    @contextlib.contextmanager
    def unharmed(self) -> Iterator[None]:
        """Check that nothing of it is opened or changed during a ``with`` block."""
        before = self.record()
        with watched(map(bytes, self._paths())) as opened:
            yield
        assert opened == []
        assert self.record() == before

    def _paths(self) -> list[Path]:
        return [self.root, *sorted(self.root.rglob("*"))]
