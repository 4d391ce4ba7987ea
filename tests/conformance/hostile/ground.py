"""Where hostile answers lead, and what is looked at afterwards."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.support.canary import Canary


@dataclass
class Ground:
    """A host.

    Attributes:
        folder: where the kit makes its own directories.
        home: the plugin's.
        canary: a tree of the host's.
        victim: another tree, which the plugin itself links and mounts: its files' change times move.
    """

    folder: Path
    home: Path
    canary: Canary
    victim: Path
    first: str = ""
    """The first layer that was got; the others stand on it."""

    @classmethod
    def made_in(cls, root: Path) -> Ground:
        for name in ("kit", "home"):
            (root / name).mkdir()
        canary = Canary.hatch(root / "canary")
        (canary.root / "empty").mkdir(mode=0o750)
        victim = root / "victim"
        (victim / "upper").mkdir(parents=True, mode=0o750)
        (victim / "work").mkdir()
        (victim / "file").write_text("only the host may change this")
        (victim / "file").chmod(0o640)
        return cls(root / "kit", root / "home", canary, victim)

    def look_at_the_victim(self) -> list[object]:
        """Return what the kit could have changed of it."""
        found: list[object] = []
        for name in ("", "upper", "file"):
            path = self.victim / name
            entry = path.stat()
            content = path.read_text() if path.is_file() else sorted(os.listdir(path))
            found.append((name, entry.st_mode, entry.st_uid, entry.st_gid, content))
        return found
