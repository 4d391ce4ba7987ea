"""Folders shown in a second place, whose path leads to the same as long as it is there.

A home's own path may not: dockerd mounts its data-root upon itself when it starts, and what was
mounted below it before is then out of reach until that mount is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable
from typing import Final

from graphdriver.errors import InUseError
from graphdriver.files.directories import make_directories, make_own
from graphdriver.files.path_lock import locked
from graphdriver.files.runtime_directory import RUNTIME
from graphdriver.linux import mount as calls
from graphdriver.linux.mountinfo import mount_points

FOLDER: Final = f"{RUNTIME}/shown"

_DELETED: Final = b"//deleted"
"""How the table of mounts ends the root of a directory that is gone (fs/d_path.c in the kernel)."""


class Shown:
    """A folder that is shown in a second place until that is ended, by this process or a later one.

    Args:
        folder: its absolute path.
        flags: any of the ``MS_`` bits, for what is shown.
    """

    def __init__(self, folder: str, flags: int = 0) -> None:
        self._folder = folder
        self._flags = flags
        self._guard = threading.Lock()
        # A digest: these paths are told to mounts, which have little room for them.
        name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()
        self.path = os.path.join(FOLDER, f"{name}{_own_suffix()}")
        """The second place."""

    def show(self) -> None:
        """Show the folder; if it is shown already, that stays, for those who use it.

        Raises:
            OSError: it cannot be.
        """
        with self._guard:
            if self._is_shown() and not os.path.samefile(self._folder, self.path):
                self._end()
            if not self._is_shown():
                make_directories(FOLDER, 0o700)
                _sweep()
                with locked(self.path):  # nobody sweeps it before it is mounted
                    make_own(self.path, 0o700)
                    calls.mount(self._folder, self.path, "", calls.MS_BIND, "")
            # Each time: who mounted it may have been killed before the rest.
            calls.mount("", self.path, "", calls.MS_PRIVATE, "")
            if self._flags:
                flags = calls.MS_BIND | calls.MS_REMOUNT | self._flags
                calls.mount("", self.path, "", flags, "")

    def end(self) -> None:
        """Show it no longer, nor what is mounted on the second place.

        Raises:
            OSError: that cannot be ended.
        """
        with self._guard:
            self._end()
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(self.path)

    def _end(self) -> None:
        while self._is_shown():
            calls.unmount(self.path, calls.MNT_DETACH)

    def _is_shown(self) -> bool:
        # By the table: where both are on one filesystem no device tells a mount.
        return any(one.point == os.fsencode(self.path) for one in mount_points())


def _own_suffix() -> str:
    """Return how names of this mount namespace end.

    In another one nobody sees what is mounted here; to remove a directory there ends its mounts here.
    """
    return f".{os.stat('/proc/self/ns/mnt').st_ino}"


def _sweep() -> None:
    """Show no longer what was deleted since, and remove what nothing is shown in."""
    suffix = _own_suffix()
    for path in _useless(name for name in os.listdir(FOLDER) if name.endswith(suffix)):
        # What is about to be used stays. Nobody waits: a process may stop in its middle.
        with contextlib.suppress(OSError, InUseError), locked(path, timeout=0):
            for still_useless in _useless([os.path.basename(path)]):
                with contextlib.suppress(OSError):  # nothing is mounted there
                    calls.unmount(still_useless, calls.MNT_DETACH)
                os.rmdir(still_useless)


def _useless(names: Iterable[str]) -> list[str]:
    """Return the paths of those in which nothing is shown, or what was deleted since."""
    roots = {one.point: one.root for one in mount_points()}
    paths = [os.path.join(FOLDER, name) for name in names]
    return [path for path in paths if roots.get(os.fsencode(path), _DELETED).endswith(_DELETED)]
