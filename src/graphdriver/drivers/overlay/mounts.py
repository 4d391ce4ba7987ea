"""The mounts of layers: where each one is, how it is made and ended, and when.

A layer that has a parent is mounted by its first Get and unmounted by its last Put. It is mounted
on ``merged``, a directory of its own that exists as long as the mount. On a read-only filesystem no
directory can be made: there the layer is mounted on its ``work`` directory, read-only. ``work`` is
free then, since only a mount with an upper directory needs it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Iterable, Sequence
from typing import Final

from graphdriver.drivers.overlay.layout import DIFF, MERGED, WORK, Layout
from graphdriver.drivers.overlay.mounter import MAX_LOWERS, Mounter, Overlay
from graphdriver.drivers.overlay.reference_counts import ReferenceCounts, kept_counts
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.files.directories import why_no_directory
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.linux.mount import MNT_DETACH, unmount
from graphdriver.linux.processes import mount_holders
from graphdriver.steps import step

_BUSY_TRIES: Final = 5
_BUSY_PAUSE: Final = 0.02  # seconds
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_log = logging.getLogger(__name__)


class LayerMounts:
    """The mounts of the layers in a home.

    Args:
        layout: the home's files.
        counts: the layers' reference counts.
        mounter: makes the mounts.
        options: mount options for each of them.
    """

    def __init__(
        self,
        layout: Layout,
        counts: ReferenceCounts,
        mounter: Mounter,
        options: Sequence[str] = (),
    ) -> None:
        self._layout = layout
        self._counts = counts
        self._mounter = mounter
        self._options = options
        self._durable: set[str] = set()
        """Layers that cannot have the kernel's mark of a volatile mount: this process mounted them."""
        self._on_work: set[str] = set()
        """Layers that this process, or one before it, mounted on ``work``."""

    def find(self, ids: Iterable[str]) -> None:
        """Find the mounts of an earlier process; called before any other method.

        Args:
            ids: all layers.

        Raises:
            OSError: a directory cannot be looked at.
        """
        for id in ids:
            layer = self._layout.path(id)
            if is_mounted(f"{layer}/{WORK}", layer):
                self._on_work.add(id)

    def point(self, id: str) -> str:
        """Return the directory that a layer is mounted on; ``""`` if it is not mounted."""
        layer = self._layout.path(id)
        for name in (MERGED, WORK) if id in self._on_work else (MERGED,):
            if is_mounted(point := f"{layer}/{name}", layer):
                return point
        return ""

    def get(self, id: str, lowers: Sequence[str], mount_label: str) -> str:
        """Mount a layer unless it is mounted, count one more Get, and return where it is mounted.

        Args:
            id: the layer.
            lowers: the links of the layers below, nearest first.
            mount_label: an SELinux label, or ``""``.

        Raises:
            GraphDriverError: it cannot be mounted.
            OSError: its directories or its count cannot be written or read.
        """
        point = self.point(id)
        count = self._counts.get(id, bool(point))
        if point and (fault := _fault_of(point)):
            _log.warning("%s %s; mounting it again", point, fault)
            self._unmount(id, point)
            point = ""
        is_new = not point
        if is_new:
            point = self._mount(id, lowers, mount_label)
        try:
            self._counts.set(id, count + 1)
        except BaseException:
            if is_new:  # the Get fails, so no Put will follow
                self._unmount(id, point)
            raise
        return point

    def put(self, id: str) -> None:
        """Count one Get less; the last one unmounts.

        Raises:
            OSError: the layer cannot be unmounted, or its count cannot be written.
        """
        point = self.point(id)
        count = self._counts.get(id, bool(point))
        if count > 1:
            self._counts.set(id, count - 1)
            return
        self._end(id, point)
        if not point:  # somebody else has unmounted it
            self.release_lowers(id)

    def put_only(self, id: str) -> bool:
        """Undo the only Get of a layer, as `put`, without a look at the layer first.

        Returns:
            Whether that was possible; otherwise nothing was done.

        Raises:
            OSError: as for `put`.
        """
        if not self._counts.is_one(id):
            return False
        try:
            self._unmount(id, self._layout.path(id, MERGED))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):  # it is not mounted, or not there
                return False
            raise
        self._remove_count(id)
        self._durable.discard(id)
        return True

    def end(self, id: str) -> None:
        """Unmount a layer if it is mounted, with any count, and set its count to 0.

        Raises:
            OSError: it cannot be unmounted, or its count cannot be removed.
        """
        self._end(id, self.point(id))

    def end_unused(self, id: str) -> None:
        """Unmount a mounted layer and set its count to 0, unless a process uses the mount.

        Raises:
            OSError: EBUSY if a process uses it; or it cannot be unmounted.
        """
        unmount(self.point(id))  # never lazily: a process may still use the mount
        self._unmounted(id)
        self._counts.set(id, 0)
        self._durable.discard(id)

    def remove_stale_counts(self) -> None:
        """Remove the counts of layers that are not mounted.

        A plugin that was killed after an unmount leaves one, and the daemon does not repeat the Put.

        Raises:
            OSError: a count cannot be removed.
        """
        for id in kept_counts(self._layout.home):
            if not self.point(id):
                self._remove_count(id)

    # --- lower directories that are mounts themselves ---------------------------------------------

    def hold_lowers(self, id: str, lowers: Sequence[str]) -> None:
        """Mount what the lower directories of a layer show, for as long as the layer is mounted.

        Called before the layer is mounted. Here nothing: they are plain directories.

        Args:
            id: the layer.
            lowers: the links of its lower directories.

        Raises:
            GraphDriverError: something cannot be mounted; `release_lowers` is called then, too.
        """

    def release_lowers(self, id: str) -> None:
        """Note that a layer is not mounted any more; raise nothing."""

    # --- mounting ---------------------------------------------------------------------------------

    def _mount(self, id: str, lowers: Sequence[str], mount_label: str) -> str:
        options = list(self._options)
        if mount_label:
            options.append(f"context={mount_label}")
        is_read_only = not self._make_merged(id)
        try:
            target = self._mount_on(id, lowers, options, is_read_only=is_read_only)
        except BaseException:
            self._remove_merged(id)
            self.release_lowers(id)
            self._layout.expect_sound(id)  # raises a better error if it is damaged
            raise
        return self._layout.path(target)

    def _make_merged(self, id: str) -> bool:
        """Make the directory that a layer is mounted on; return False on a read-only filesystem."""
        try:
            os.mkdir(self._layout.path(id, MERGED), 0o700)
        except FileExistsError:  # left by a process that was killed
            return not _is_read_only(self._layout.path(id))
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            return False
        return True

    def _mount_on(
        self, id: str, lowers: Sequence[str], options: list[str], *, is_read_only: bool
    ) -> str:
        """Mount a layer; return the name of the directory that it is mounted on."""
        target = f"{id}/{WORK if is_read_only else MERGED}"
        if why_no_directory(self._layout.path(id, DIFF)):  # the kernel would follow a symlink
            self._layout.expect_sound(id)
        is_committed = self._layout.is_committed(id)
        is_volatile = self._layout.is_volatile(id)
        if is_volatile:
            self._durable.discard(id)
        else:
            self._durable.add(id)
        is_volatile = is_volatile and not is_committed
        if is_volatile:
            self._expect_whole(id)
        if is_read_only or is_committed:
            # A parent gets no upper directory: overlayfs forbids that a lower directory of another
            # mount changes (Linux documentation, filesystems/overlayfs, "Changes to underlying
            # filesystems").
            overlay = Overlay([f"{id}/{DIFF}", *lowers], target, options=options)
        else:
            if is_volatile:
                self._clear_volatile_mark(id)
                options.append("volatile")
            overlay = Overlay(lowers, target, f"{id}/{DIFF}", f"{id}/{WORK}", options)
        if len(overlay.lowers) > MAX_LOWERS:
            raise UnsupportedError(
                f"the filesystem is read-only, so the layer is one more lower directory on"
                f" {len(lowers)}, and the kernel mounts at most {MAX_LOWERS}",
                hint="mount the filesystem writable",
            )
        if is_read_only:
            self._on_work.add(id)
        self.hold_lowers(id, lowers)
        with step("mount"):
            self._mounter.mount(overlay)
        return target

    def _end(self, id: str, point: str) -> None:
        if point:
            self._unmount(id, point)
        self._remove_count(id)
        self._durable.discard(id)

    def _remove_count(self, id: str) -> None:
        # On a read-only filesystem the kernel's mark stays. Then the count stays as well: it shows
        # that the mark is of this boot, and that nothing was lost.
        if self._counts.is_kept(id) and not self._has_volatile_mark(id):
            self._counts.set(id, 0)

    def _unmount(self, id: str, point: str) -> None:
        """Unmount a mounted layer: at once if no process uses the mount, else lazily."""
        for _ in range(_BUSY_TRIES):
            try:
                unmount(point)
                break
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
            if _is_dead(point):
                unmount(point, MNT_DETACH)
                break
            time.sleep(_BUSY_PAUSE)  # usually the process that uses it is about to end
        else:
            users = "; ".join(mount_holders(point)) or "no process that is visible here"
            _log.warning("%s is busy: %s; unmounted lazily", point, users)
            unmount(point, MNT_DETACH)
        self._unmounted(id)

    def _unmounted(self, id: str) -> None:
        """Remove the leftovers of a mount from the layer's directory."""
        # At once: without the mount it is an empty directory, which somebody could take for the layer.
        self._remove_merged(id)
        self._on_work.discard(id)
        self.release_lowers(id)
        if id not in self._durable and self._layout.is_volatile(id):
            self._clear_volatile_mark(id)

    def _remove_merged(self, id: str) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(self._layout.path(id, MERGED))

    # --- volatile mounts --------------------------------------------------------------------------

    def _has_volatile_mark(self, id: str) -> bool:
        """Tell whether the layer has the kernel's mark of a volatile mount that was not unmounted.

        After a crash of the machine the mark means that content may be missing. Within one boot
        nothing was lost. (Linux documentation, filesystems/overlayfs, "Volatile mount".)
        """
        return id not in self._durable and os.access(f"{self._incompat(id)}/volatile/", os.F_OK)

    def _expect_whole(self, id: str) -> None:
        if self._has_volatile_mark(id) and not self._counts.is_of_this_boot(id):
            raise GraphDriverError(
                "the machine went down while this volatile layer was in use, and what was written"
                " last may be missing",
                hint="remove the container; leave the option volatile out to have it synced",
            )

    def _clear_volatile_mark(self, id: str) -> None:
        """Remove the kernel's mark, since the kernel refuses to mount a layer that has it."""
        if not self._has_volatile_mark(id):
            return
        fd = os.open(self._incompat(id), _DIRECTORY)
        try:
            remove_tree(fd, b"volatile")
        except OSError as error:
            # On a read-only filesystem the mark stays, and so does the count: see `_end`.
            if error.errno != errno.EROFS:
                raise
        finally:
            os.close(fd)

    def _incompat(self, id: str) -> str:
        return self._layout.path(id, WORK, "work", "incompat")


def is_mounted(directory: str, above: str) -> bool:
    """Tell whether something is mounted on a directory; False if the directory does not exist.

    Args:
        directory: its path.
        above: the path of the directory that it is in.
    """
    # By device numbers: an overlay always has its own, and a stat costs less than the mount table.
    try:
        return os.stat(directory).st_dev != os.stat(above).st_dev
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        if error.errno == errno.ENOTCONN:  # a FUSE mount without a process that serves it
            return True
        raise


def _is_dead(point: str) -> bool:
    """Tell whether the process that served a FUSE mount is gone."""
    try:
        os.stat(point)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def _fault_of(point: str) -> str:
    """Return why a layer must be mounted again, for the log; ``""`` if it need not be."""
    if _is_dead(point):
        return "lost the process that served it"
    if os.path.basename(point) == WORK and not _is_read_only(os.path.dirname(point)):
        return "is read-only, and its filesystem can be written to again"
    return ""


def _is_read_only(directory: str) -> bool:
    """Tell whether a filesystem, or the mount that a path leads through, is read-only."""
    return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
