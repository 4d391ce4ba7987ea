"""Checks of the paths that a plugin returns, before the kit reads or writes there as root.

A plugin returns paths: the directory of a layer, the directories of a mount. The kit accepts only
directories below the homes that it chose, and filesystems that were mounted since. It opens an accepted
directory once. The cases get a private copy of its mount (`graphdriver.linux.mount.mount_copy`), where
the kernel follows no symbolic link, opens no device, shows no mount further below, and does not let
``..`` lead out. So neither a link in a layer nor a change after the check leads elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from graphdriver.conformance.kit.expect import Mismatch
from graphdriver.errors import UnsupportedError
from graphdriver.linux.mount import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    mount_copy,
)
from graphdriver.linux.mountinfo import MountPoint, mount_id, mount_points, unescape
from graphdriver.linux.openat2 import (
    AT_FDCWD,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

_HARMLESS: Final = MOUNT_ATTR_NOSYMFOLLOW | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_STRAIGHT: Final = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_LONGEST: Final = 4095
_UPPER: Final = re.compile(rb"(?:^|,)upperdir=(/[^,]*)")
_EXPECTED: Final = "a directory below the home, or of a filesystem mounted since"


@dataclass(frozen=True, slots=True)
class _Place:
    """A directory within its filesystem, the same for all bind mounts of it."""

    device: int
    path: bytes

    def holds(self, other: _Place) -> bool:
        """Return whether another place is this one, or below it."""
        return self.device == other.device and (other.path + b"/").startswith(
            self.path.rstrip(b"/") + b"/"
        )


class Homes:
    """The directories in which layers may be.

    Create it before Init: the plugin could replace the home afterwards.

    Args:
        home: the home that Init will name; it need not exist yet.
        scratch: where the kit creates its own directories.

    Raises:
        UnsupportedError: the kernel cannot make the copies that the cases work in.
    """

    def __init__(self, home: str, scratch: str | Path) -> None:
        # By mounts, not by device numbers: the kernel reuses the number of a filesystem that is gone.
        below = os.fsencode(os.path.realpath(home)) + b"/"
        self._mounted_before = {
            _identity(one) for one in mount_points() if not one.point.startswith(below)
        }
        # No response may name one of these, or a directory above them.
        self._kept = {
            str(path): _place_to_be(os.path.realpath(path)) for path in (home, scratch, os.getcwd())
        }
        self._homes = [_place_to_be(os.path.realpath(home))]
        _expect_a_kernel_that_copies(scratch)

    @contextlib.contextmanager
    def admitted(self, home: str) -> Iterator[None]:
        """Accept layers below another home as well for the length of a ``with`` block."""
        place = _place_to_be(os.path.realpath(home))
        self._homes.append(place)
        try:
            yield
        finally:
            self._homes.remove(place)

    @contextlib.contextmanager
    def opened(
        self, what: str, path: object, *, is_new: bool = False, is_read: bool = False
    ) -> Iterator[Path]:
        """Check a directory that a plugin returned, and give it for the length of a ``with`` block.

        Args:
            what: the source of the path, for errors.
            path: the path in the plugin's response.
            is_new: it is the root of a new layer without a parent, and so must be empty.
            is_read: the caller will not write to it.

        Returns:
            A path into a private copy of the directory's mount.

        Raises:
            Mismatch: it cannot be a layer's; nothing was read or written there.
        """
        fd, is_on_the_homes = self._open(what, path)
        with self.copied(fd, is_read=is_read) as root:
            if is_new and (found := sorted(os.listdir(root))):
                saw = f"{path!r}, which holds {found[0]!r}"
                raise Mismatch(what, saw, "an empty directory, since the layer is new")
            if is_on_the_homes and not is_read:
                _expect_files_of_its_own(what, root)
            yield root

    @contextlib.contextmanager
    def copied(self, fd: int, *, is_read: bool) -> Iterator[Path]:
        """Give a checked directory, which is open, in a private copy of its mount; close it.

        Raises:
            OSError: EINVAL where its mount must not be copied (MS_UNBINDABLE).
        """
        try:
            copy = mount_copy(fd, _HARMLESS | (MOUNT_ATTR_RDONLY if is_read else 0))
        finally:
            os.close(fd)
        try:
            yield Path(f"/proc/{os.getpid()}/fd/{copy}")
        finally:
            os.close(copy)

    def open(self, what: str, path: object) -> int:
        """Check a directory that a plugin returned, and open it.

        Returns:
            The directory, `O_PATH`; the caller's.

        Raises:
            Mismatch: as for `opened`.
        """
        return self._open(what, path)[0]

    def _open(self, what: str, path: object) -> tuple[int, bool]:
        """Open a directory; return it, and whether it is on a home's own filesystem."""
        try:
            fd = openat2(AT_FDCWD, _clean(what, path), _DIRECTORY, 0, _STRAIGHT)
        except OSError as error:
            saw = f"{path!r}: {os.strerror(error.errno or 0)}"
            raise Mismatch(what, saw, "a directory, reached without symbolic links") from error
        try:
            return fd, self._expect_in_a_home(what, path, fd)
        except BaseException:
            os.close(fd)
            raise

    def _expect_in_a_home(self, what: str, path: object, fd: int) -> bool:
        table = {one.id: one for one in mount_points()}
        if mount_id(fd) not in table:
            raise Mismatch(what, f"{path!r}, which is unmounted already", _EXPECTED)
        place, mount = _place(fd, table)
        start = os.readlink(b"/proc/self/fd/%d" % fd) + b"/"
        for one in table.values():
            if one.point.startswith(start):
                saw = f"{path!r}, with a mount at {os.fsdecode(one.point)!r}"
                raise Mismatch(what, saw, "a directory with nothing mounted in it")
        for kept, its_place in self._kept.items():
            if place.holds(its_place):
                raise Mismatch(what, f"{path!r}, which holds {kept!r} or is the same", _EXPECTED)
        if any(home != place and home.holds(place) for home in self._homes):
            return True
        if any(
            one.device == place.device and _identity(one) in self._mounted_before
            for one in table.values()
        ):
            raise Mismatch(what, f"{path!r}, which belongs to the host", _EXPECTED)
        if upper := _UPPER.search(mount.options):
            self.check(f"the upper directory of {path!r}", os.fsdecode(unescape(upper[1])))
        return False

    def check(self, what: str, path: object) -> None:
        """Check a directory that will be used by its path."""
        os.close(self.open(what, path))


def _identity(mount: MountPoint) -> tuple[int, int, bytes, bytes]:
    """Return the fields of a mount that do not change while it exists."""
    return mount.id, mount.device, mount.root, mount.point


def _clean(what: str, path: object) -> bytes:
    """Expect a path that means one directory only: absolute, without ``.``, ``..`` and ``//``."""
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise Mismatch(what, path if path else f"{path!r}", "an absolute path")
    raw = path.encode("utf-8", "surrogateescape")
    if path[:2] in ("/", "//") or os.path.normpath(path) != path or len(raw) > _LONGEST:
        raise Mismatch(what, path, "a clean path of a directory below the home")
    return raw


def _place_to_be(path: str) -> _Place:
    """Return the place of a directory that may not exist yet; its path holds no symbolic links."""
    missing: list[str] = []
    while not os.path.isdir(path):
        path, _, name = path.rpartition("/")
        path = path or "/"
        missing.append(name)
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        place, _ = _place(fd, {one.id: one for one in mount_points()})
    finally:
        os.close(fd)
    return _Place(place.device, os.path.join(place.path, *map(os.fsencode, reversed(missing))))


def _place(fd: int, table: dict[int, MountPoint]) -> tuple[_Place, MountPoint]:
    mount = table[mount_id(fd)]
    path = os.readlink(b"/proc/self/fd/%d" % fd)
    below = os.path.relpath(path, mount.point)
    return _Place(mount.device, os.path.normpath(os.path.join(mount.root, below))), mount


def _expect_files_of_its_own(what: str, root: Path) -> None:
    """Expect that no file of a layer has a hard link outside of it: both would be written to."""
    names: Counter[int] = Counter()
    links: dict[int, tuple[int, str]] = {}
    pending = [str(root)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    pending.append(entry.path)
                elif found.st_nlink > 1:
                    names[found.st_ino] += 1
                    links[found.st_ino] = found.st_nlink, os.path.relpath(entry.path, root)
    for inode, (count, name) in links.items():
        if names[inode] < count:
            saw = f"{name!r}, which has {count - names[inode]} more names outside of the layer"
            raise Mismatch(what, saw, "files that belong to the layer only")


def _expect_a_kernel_that_copies(path: str | Path) -> None:
    fd = os.open(path, os.O_PATH)
    try:
        os.close(mount_copy(fd, _HARMLESS))
    except OSError as error:
        hint = "run the kit as root on Linux 5.14 or later"
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
            raise
        raise UnsupportedError(
            f"a mount cannot be copied without links and devices: {error}", hint=hint
        ) from error
    finally:
        os.close(fd)
