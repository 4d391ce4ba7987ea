"""What is kept in a driver's home for it, in ``HOME/.graphdriver/``, so that every driver has it.

- ``lock``: held (flock) by the one process that serves the home; it says which one that is.
- ``home.json``: whose home it is: the engine's (Docker or containerd), the driver's name, the version
  of its layout, and whether it promised to reproduce diffs. Another engine, driver, version or promise
  is refused, because a daemon would lose the layers that are there.
- ``applying/ID``: the mark of a layer whose ApplyDiff has begun and is not known to be whole and on
  disk. While it bears the mark nobody may take the layer for a whole one.

A mark needs no fsync of its own when it is made: it comes before the layer's content in the same
filesystem's journal, so no crash leaves content without it. It is removed only after `syncfs`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable

from graphdriver.driver import IDMap, host_root
from graphdriver.errors import GraphDriverError, InUseError, UnsupportedError
from graphdriver.files.directories import make_directories, make_own, make_plain, secure
from graphdriver.files.small_files import read_object, write_whole
from graphdriver.linux.filesystem import syncfs
from graphdriver.serving.home_contents import IDENTITY, refuse_others

_FOLDER = ".graphdriver"
_OWN_FILE = os.O_NOFOLLOW | os.O_CLOEXEC


class Home:
    """A home that this process holds.

    Args:
        path: the home; it and missing folders above it are made.
        gid_maps: the home belongs to the group that root has under these.
        patience: how long to wait for another process to let go of it, in seconds.
        adopt: whether a directory that holds other files may become the home.

    Raises:
        InUseError: another process holds it; the text names both.
        UnsupportedError: it holds other files, or belongs to another user.
        GraphDriverError: it cannot be made.
    """

    def __init__(
        self,
        path: str,
        gid_maps: tuple[IDMap, ...] = (),
        patience: float = 0,
        *,
        adopt: bool = False,
    ) -> None:
        self.path = path
        own = os.path.join(path, _FOLDER)
        self._marks = os.path.join(own, "applying")
        try:
            if not adopt:
                refuse_others(path)
            self._make(own, host_root(gid_maps))
        except OSError as error:
            raise GraphDriverError(
                f"the home {path} cannot be made or used: {os.fsdecode(error.filename or path)}:"
                f" {error.strerror or error}",
                hint="choose another home",
            ) from error
        self._identity = os.path.join(path, IDENTITY)
        self._lock_path = os.path.join(own, "lock")
        self._lock = self._take_lock(self._lock_path, patience)
        try:
            self._unfinished = set(os.listdir(self._marks))
        except BaseException:
            self.close()
            raise

    def _make(self, own: str, group: int) -> None:
        make_directories(os.path.dirname(self.path), 0o711)
        make_plain(self.path, 0o710)
        secure(self.path, 0o710)
        if os.stat(self.path).st_gid != group:  # a kill may have come between the two
            os.chown(self.path, -1, group)
        make_own(own, 0o700)
        make_own(self._marks, 0o700)

    def _take_lock(self, path: str, patience: float) -> int:
        # Not for writing: a read-only home can be locked, and one that is held be made read-only.
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | _OWN_FILE, 0o600)
        try:
            try:
                is_locked = _is_locked_within(descriptor, patience)
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
                _open_for_writing(descriptor, path)
                is_locked = _is_locked_within(descriptor, patience)
            holder = b"" if is_locked else os.pread(descriptor, 64, 0).strip()
        except BaseException:
            os.close(descriptor)
            raise
        if not is_locked:
            os.close(descriptor)
            process = f"process {int(holder)}" if holder.isdigit() else "another process"
            raise InUseError(
                f"the home {self.path} is served by {process}, and this is {os.getpid()}",
                hint="stop that one first, or use another home",
            )
        # For messages alone, so a full disk does not matter; and where there was room once, there is.
        with contextlib.suppress(OSError):
            writable = os.open(path, os.O_WRONLY | _OWN_FILE)
            try:
                os.pwrite(writable, b"%-20d\n" % os.getpid(), 0)
            finally:
                os.close(writable)
        return descriptor

    def is_current(self) -> bool:
        """Tell whether the path leads to this home still.

        It leads to another one, or to none, when the home was deleted, or when something was mounted on
        the way to it. The open lock is compared: no other file can have its device and inode meanwhile.
        """
        try:
            there = os.stat(self._lock_path)
        except OSError:
            return False
        held = os.fstat(self._lock)
        return (there.st_ino, there.st_dev) == (held.st_ino, held.st_dev)

    def claim(self, engine: str, driver: str, home_format: int) -> bool:
        """Say whose home it is, or find that it is so already; before the driver touches it.

        Args:
            engine: ``docker`` or ``containerd``: neither knows the other's layers.
            driver: the driver's name.
            home_format: the version of its layout on disk.

        Returns:
            Whether it was so already.

        Raises:
            UnsupportedError: it belongs to another engine, driver or version; the text names both.
        """
        mine = {"engine": engine, "driver": driver, "format": home_format}
        there = self._read_identity()
        if there is None:
            write_whole(self._identity, json.dumps(mine), 0o600)
        elif {**there, **mine} != there:
            raise UnsupportedError(
                f"the home {self.path} was made by {_described(there)}, and this is"
                f" {_described(mine)}",
                hint="use another home, or remove this one with all its layers",
            )
        return there is not None

    def bind(self, exact_diffs: bool) -> None:
        """Hold the driver to what it first promised here about exact diffs.

        Raises:
            UnsupportedError: it promises otherwise now: the daemon would lose its old layers.
        """
        there = self._read_identity() or {}
        promised = there.get("reproduces_exact_diffs")
        if promised is None:
            write_whole(
                self._identity, json.dumps(there | {"reproduces_exact_diffs": exact_diffs}), 0o600
            )
        elif promised is not exact_diffs:
            raise UnsupportedError(
                f"the layers in {self.path} were kept {_promised(not exact_diffs)}, and the driver"
                f" is {_promised(exact_diffs)} now",
                hint="go back to the former setting, or use another home",
            )

    def _read_identity(self) -> dict[str, object] | None:
        try:
            there = read_object(self._identity)
            if wrong := _wrong_member(there):
                raise ValueError(f"{wrong} is wrong or missing")
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise GraphDriverError(
                f"{self._identity} is damaged, so nobody knows whose home this is: {error}",
                hint="restore it, or remove the home with all its layers",
            ) from error
        return there

    def close(self) -> None:
        """Let go of the home."""
        os.close(self._lock)

    # --- marks ------------------------------------------------------------------------------------

    def is_unfinished(self, id: str) -> bool:
        """Tell whether the layer bears the mark."""
        return id in self._unfinished

    def unfinished(self) -> list[str]:
        """Return the layers that have the mark."""
        return sorted(self._unfinished)

    def mark(self, id: str) -> None:
        """Mark a layer before the first byte of its ApplyDiff is written."""
        os.close(os.open(self._mark(id), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._unfinished.add(id)

    def unmark(self, id: str) -> None:
        """Take the mark off; the layer is whole, or gone."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._mark(id))
        self._unfinished.discard(id)

    def unmark_all_but(self, exists: Callable[[str], bool]) -> None:
        """Take the marks off layers that are gone: a kill may come between a Remove and its unmark.

        Args:
            exists: tells whether there is such a layer.
        """
        for id in [id for id in self._unfinished if not exists(id)]:
            with contextlib.suppress(OSError):  # a filesystem that was made read-only is read
                self.unmark(id)

    def unmark_synced(self, id: str, filesystem: int) -> None:
        """Take the mark off once the layer is on disk, for good.

        Args:
            id: the layer.
            filesystem: a descriptor on it that was opened before the first write, so that an error
                of writing back is reported to us (syncfs(2), since Linux 5.8).

        Raises:
            OSError: something could not be written; the mark stays.
        """
        syncfs(filesystem)
        descriptor = os.open(self._marks, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.unlink(self._mark(id))
            try:
                os.fsync(descriptor)
            except BaseException:
                self.mark(id)  # the caller is told that the layer is not on disk
                raise
        finally:
            os.close(descriptor)
        self._unfinished.discard(id)

    def sync(self) -> None:
        """Wait until all that was written in the home is on disk.

        Raises:
            OSError: something could not be written.
        """
        descriptor = self.open()
        try:
            syncfs(descriptor)
        finally:
            os.close(descriptor)

    def open(self) -> int:
        """Return a descriptor on the home, for `unmark_synced`; the caller closes it."""
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _mark(self, id: str) -> str:
        return os.path.join(self._marks, id)


def _open_for_writing(descriptor: int, path: str) -> None:
    """Open a lock's file anew under the same descriptor: NFS locks only what is open for writing.

    The rule is in nfs4_proc_lock (fs/nfs/nfs4proc.c in the kernel); see also flock(2).
    """
    writable = os.open(path, os.O_RDWR | _OWN_FILE)
    try:
        os.dup2(writable, descriptor, inheritable=False)
    finally:
        os.close(writable)


def _is_locked_within(descriptor: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _wrong_member(identity: dict[str, object]) -> str:
    for name in ("engine", "driver"):
        value = identity.get(name)
        if not (isinstance(value, str) and value.isprintable()):
            return name
    if type(identity.get("format")) is not int:
        return "format"
    promised = identity.get("reproduces_exact_diffs", False)
    return "" if isinstance(promised, bool) else "reproduces_exact_diffs"


def _described(identity: dict[str, object]) -> str:
    driver, engine = identity.get("driver"), identity.get("engine")
    return f"driver {driver!r}, format {identity.get('format')}, for {engine}"


def _promised(exact_diffs: bool) -> str:
    return f"with{'' if exact_diffs else 'out'} the promise of exact diffs"
