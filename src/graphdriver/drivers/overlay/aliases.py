"""Aliases: a directory that is bind-mounted at a second path.

The second path leads to the directory as long as the alias is mounted. A home's own path may not:
when dockerd starts, it bind-mounts its data-root on itself. This hides earlier mounts below the
data-root until that bind mount is gone.
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

ALIASES: Final = f"{RUNTIME}/shown"

_DELETED: Final = b"//deleted"
"""The end of a mount's root in the mount table if the directory was deleted (fs/d_path.c in Linux)."""


class DirectoryAlias:
    """A directory bind-mounted at a second path, until this process or a later one unmounts it.

    Args:
        directory: its absolute path.
        flags: any of the ``MS_`` bits, for the bind mount.

    Attributes:
        path: the second path.
    """

    def __init__(self, directory: str, flags: int = 0) -> None:
        self._directory = directory
        self._flags = flags
        self._guard = threading.Lock()
        # A digest is short: mount options hold this path, and have little room.
        name = hashlib.sha256(os.fsencode(os.path.realpath(directory))).hexdigest()
        self.path = os.path.join(ALIASES, f"{name}{_own_suffix()}")

    def mount(self) -> None:
        """Mount the alias; keep one that is mounted already, since it may be in use.

        Raises:
            OSError: it cannot be mounted.
        """
        with self._guard:
            if self._is_mounted() and not os.path.samefile(self._directory, self.path):
                self._unmount()  # the directory was deleted, and made again
            if not self._is_mounted():
                make_directories(ALIASES, 0o700)
                _sweep()
                with locked(self.path):  # until it is mounted, so that no other process sweeps it
                    make_own(self.path, 0o700)
                    calls.mount(self._directory, self.path, "", calls.MS_BIND, "")
            # Each time: the process that mounted it may have been killed before it did this.
            # Private, so that mounts on the alias do not appear in the directory as well.
            calls.mount("", self.path, "", calls.MS_PRIVATE, "")
            if self._flags:
                flags = calls.MS_BIND | calls.MS_REMOUNT | self._flags
                calls.mount("", self.path, "", flags, "")

    def unmount(self) -> None:
        """Unmount the alias and what is mounted on its path; succeed if nothing is.

        Raises:
            OSError: it cannot be unmounted.
        """
        with self._guard:
            self._unmount()
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(self.path)

    def _unmount(self) -> None:
        while self._is_mounted():
            calls.unmount(self.path, calls.MNT_DETACH)

    def _is_mounted(self) -> bool:
        # By the mount table: alias and directory are on one filesystem, so st_dev tells nothing.
        return any(one.point == os.fsencode(self.path) for one in mount_points())


def _own_suffix() -> str:
    """Return the suffix of aliases in this mount namespace.

    Another namespace must leave them alone: it does not see what is mounted here, and removing the
    directory there would unmount the alias here.
    """
    return f".{os.stat('/proc/self/ns/mnt').st_ino}"


def _sweep() -> None:
    """Remove what killed processes left: aliases of deleted directories, and ones that are not mounted.

    Only those of this mount namespace. The sweep does not wait for locks: the process that holds an
    alias's lock may be stopped.
    """
    suffix = _own_suffix()
    for path in _useless(name for name in os.listdir(ALIASES) if name.endswith(suffix)):
        with contextlib.suppress(OSError, InUseError), locked(path, timeout=0):
            # Checked again under the lock: it may have been mounted meanwhile.
            for still_useless in _useless([os.path.basename(path)]):
                with contextlib.suppress(OSError):  # not mounted
                    calls.unmount(still_useless, calls.MNT_DETACH)
                os.rmdir(still_useless)


def _useless(names: Iterable[str]) -> list[str]:
    """Return the paths of the aliases that are not mounted, or show a directory that was deleted."""
    roots = {one.point: one.root for one in mount_points()}
    paths = [os.path.join(ALIASES, name) for name in names]
    return [path for path in paths if roots.get(os.fsencode(path), _DELETED).endswith(_DELETED)]
