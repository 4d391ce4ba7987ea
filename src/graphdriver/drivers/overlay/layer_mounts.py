"""The mounts of layers on overlays: where each one is, and how it is made and ended.

A layer is mounted on ``merged``, a directory of its own that is there as long as the mount. On a
read-only filesystem no directory can be made, and no upper directory used: there the layer is mounted
on its ``work`` directory, which only a mount with an upper directory needs, and is read-only.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Sequence
from typing import Final

from graphdriver.drivers.overlay.ground import Ground
from graphdriver.drivers.overlay.layer_files import DIFF, WORK, LayerFiles
from graphdriver.drivers.overlay.mounts import Overlay, is_dead, is_mounted
from graphdriver.drivers.overlay.reference_counts import Holds
from graphdriver.errors import GraphDriverError
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.linux.mount import MNT_DETACH, unmount
from graphdriver.linux.processes import mount_holders

MERGED: Final = "merged"

_BUSY_TRIES: Final = 5
_BUSY_PAUSE: Final = 0.02
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_log = logging.getLogger(__name__)


class LayerMounts:
    """The mounts of the layers in a home.

    Args:
        home: an absolute path.
        ground: how its layers are mounted.
        files: their small files.
        holds: how often each layer is held.
    """

    def __init__(self, home: str, ground: Ground, files: LayerFiles, holds: Holds) -> None:
        self._home = home
        self._mounter = ground.mounter
        self._options = ground.options.mount_options
        self._files = files
        self._holds = holds

    def point_of(self, id: str) -> str:
        """Return the directory that a layer is mounted on; ``""`` if it is not mounted."""
        points = (self._path(id, name) for name in (MERGED, WORK))
        return next(filter(is_mounted, points), "")

    def fault_of(self, point: str) -> str:
        """Tell why a layer must be mounted anew; ``""`` if it need not be.

        Args:
            point: the directory that it is mounted on.
        """
        if is_dead(point):
            return "lost the program that served it"
        if os.path.basename(point) == WORK and not _is_read_only(os.path.dirname(point)):
            return "is read-only, and its filesystem can be written to again"
        return ""

    def make(self, id: str, lowers: Sequence[str], mount_label: str) -> str:
        """Mount a layer, and return the directory that it is mounted on.

        Args:
            id: the layer, which is not mounted.
            lowers: the links of the layers below, nearest first.
            mount_label: an SELinux label, or ``""``.

        Raises:
            GraphDriverError: it cannot be mounted.
            OSError: its directories cannot be made or read.
        """
        options = list(self._options)
        if mount_label:
            options.append(f"context={mount_label}")
        is_read_only = _is_read_only(self._path(id))
        target = f"{id}/{WORK if is_read_only else MERGED}"
        is_committed = self._files.is_committed(id)
        is_volatile = self._files.is_volatile(id) and not is_committed
        if is_volatile:
            self._expect_whole(id)
        if is_read_only or is_committed:
            overlay = Overlay([f"{id}/{DIFF}", *lowers], target, options=options)
        else:
            if is_volatile:
                self._clear_volatile(id)
                options.append("volatile")
            overlay = Overlay(lowers, target, f"{id}/{DIFF}", f"{id}/{WORK}", options)
        if not is_read_only:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._path(target), 0o700)
        try:
            self._mounter.mount(overlay)
        except BaseException:
            self._remove_point(id)
            self._files.lower_directories(id)  # raises a better error if one of them is lost
            raise
        return self._path(target)

    def end(self, id: str) -> None:
        """Unmount a layer: at once if that can be, else as soon as nobody uses it.

        Raises:
            OSError: it cannot be unmounted.
        """
        point = self.point_of(id)
        for attempt in range(_BUSY_TRIES):
            if is_dead(point):
                unmount(point, MNT_DETACH)
                break
            if attempt:
                time.sleep(_BUSY_PAUSE)
            try:
                unmount(point)
                break
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
        else:
            who = "; ".join(mount_holders(point)) or "nobody that can be seen"
            _log.warning("%s is busy: %s; unmounted lazily", point, who)
            unmount(point, MNT_DETACH)
        self._ended(id)

    def end_unused(self, id: str) -> None:
        """Unmount a layer, but never lazily: whoever uses it keeps it.

        Raises:
            OSError: EBUSY if it is used; or it cannot be unmounted.
        """
        unmount(self.point_of(id))
        self._ended(id)

    def _ended(self, id: str) -> None:
        """Leave nothing of a mount that was ended."""
        self._remove_point(id)
        if self._files.is_volatile(id):
            self._clear_volatile(id)

    def _remove_point(self, id: str) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(self._path(id, MERGED))

    # --- volatile ---------------------------------------------------------------------------------

    def is_marked(self, id: str) -> bool:
        """Tell whether the kernel's mark of a volatile mount is in a layer.

        It means that content may be missing after a crash of the machine (kernel documentation,
        filesystems/overlayfs, "Volatile mount"). Within one boot nothing was lost.
        """
        return os.path.isdir(os.path.join(self._incompat(id), "volatile"))

    def _expect_whole(self, id: str) -> None:
        if self.is_marked(id) and not self._holds.was_counted(id):
            raise GraphDriverError(
                "the machine went down while this volatile layer was in use, and what was written"
                " last may be missing",
                hint="remove the container; leave the option volatile out to have it synced",
            )

    def _clear_volatile(self, id: str) -> None:
        """Remove the mark, by which the kernel refuses a volatile layer that was not unmounted."""
        if not self.is_marked(id):
            return
        fd = os.open(self._incompat(id), _DIRECTORY)
        try:
            remove_tree(fd, b"volatile")
        except OSError as error:
            if error.errno != errno.EROFS:  # there it stays, and the layer's count with it
                raise
        finally:
            os.close(fd)

    def _incompat(self, id: str) -> str:
        return self._path(id, WORK, "work", "incompat")

    def _path(self, *parts: str) -> str:
        return os.path.join(self._home, *parts)


def _is_read_only(directory: str) -> bool:
    """Tell whether a filesystem is read-only, or a mount on the way to it."""
    return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
