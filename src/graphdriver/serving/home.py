"""The files in ``HOME/.graphdriver/``, which the framework keeps for every driver.

- ``lock``: locked (flock) by the one process that serves the home; holds its process ID.
- ``home.json``: the engine (Docker or containerd), the driver's name, the version of its layout, and
  whether it promised to reproduce diffs. Another engine, driver, version or promise is refused,
  because a daemon would lose the layers in the home.
- ``layers``: what is known of each layer, for people who look (`graphdriver.serving.layer_journal`).
- ``server.json``: which process serves the home, and where it listens
  (`graphdriver.serving.server_record`).
- ``applying/ID``: the mark of a layer that may be incomplete or not on disk yet, because its ApplyDiff
  has begun.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from graphdriver.driver import IDMap, host_root
from graphdriver.errors import GraphDriverError, InUseError, UnsupportedError
from graphdriver.files.directories import make_directories, make_own, make_plain, secure
from graphdriver.files.small_files import read_object, write_whole
from graphdriver.linux.filesystem import syncfs
from graphdriver.linux.processes import lock_holders, lock_holding_processes
from graphdriver.serving.home_contents import IDENTITY, OWN, refuse_others

MARKS = f"{OWN}/applying"
LOCK = f"{OWN}/lock"
_OWN_FILE = os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Identity:
    """The engine, the driver and the version of the layout of a home, by its record."""

    engine: str
    driver: str
    format: int


def identity_of(path: str) -> Identity | None:
    """Return what a home's record says, without a lock; None if it has no record.

    Raises:
        GraphDriverError: the record is damaged.
        OSError: it cannot be read.
    """
    there = _read_identity(path)
    if there is None:
        return None
    return Identity(str(there["engine"]), str(there["driver"]), int(str(there["format"])))


def servers_of(path: str) -> list[str]:
    """Return in words the processes that serve a home; those of other PID namespaces are not seen."""
    with contextlib.suppress(OSError):
        return lock_holders([os.path.join(path, LOCK)])
    return []


def serving_processes(path: str) -> list[int]:
    """Return the numbers of the processes that serve a home, as `servers_of`."""
    with contextlib.suppress(OSError):
        return lock_holding_processes([os.path.join(path, LOCK)])
    return []


class Home:
    """A home that this process has locked.

    Args:
        path: the home; it and missing directories above it are made.
        gid_maps: the home belongs to the group that root has under these.
        timeout: how long to wait for another process to unlock it, in seconds.
        adopt: whether a directory that holds other files may become the home.

    Raises:
        InUseError: another process has locked it; the text names that process.
        UnsupportedError: it holds other files, or belongs to another user.
        GraphDriverError: it cannot be made.
    """

    def __init__(
        self,
        path: str,
        gid_maps: tuple[IDMap, ...] = (),
        timeout: float = 0,
        *,
        adopt: bool = False,
    ) -> None:
        self.path = path
        own = os.path.join(path, OWN)
        self._marks = os.path.join(path, MARKS)
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
        self._lock_path = os.path.join(path, LOCK)
        self._lock = self._take_lock(self._lock_path, timeout)
        # No other file can have this inode number while the lock is open.
        held = os.fstat(self._lock)
        self._lock_inode, self._lock_device = held.st_ino, held.st_dev
        try:
            self._unfinished = set(os.listdir(self._marks))
        except BaseException:
            self.close()
            raise

    def _make(self, own: str, group: int) -> None:
        make_directories(os.path.dirname(self.path), 0o711)
        make_plain(self.path, 0o710)
        secure(self.path, 0o710)
        if os.stat(self.path).st_gid != group:  # also after a kill between the two calls
            os.chown(self.path, -1, group)
        make_own(own, 0o700)
        make_own(self._marks, 0o700)

    def _take_lock(self, path: str, timeout: float) -> int:
        # Read-only: a home on a read-only filesystem can be locked, and a filesystem with a locked home
        # can be remounted read-only.
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | _OWN_FILE, 0o600)
        try:
            try:
                is_locked = _is_locked_within(descriptor, timeout)
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
                _open_for_writing(descriptor, path)
                is_locked = _is_locked_within(descriptor, timeout)
            holder = b"" if is_locked else os.pread(descriptor, 64, 0).strip()
        except BaseException:
            os.close(descriptor)
            raise
        if not is_locked:
            os.close(descriptor)
            process = f"process {int(holder)}" if holder.isdigit() else "another process"
            raise InUseError(
                f"the home {self.path} is in use by {process}",
                hint="stop it, or choose another home",
            )
        # Only errors show it, so a full disk does not matter.
        with contextlib.suppress(OSError):
            writable = os.open(path, os.O_WRONLY | _OWN_FILE)
            try:
                os.pwrite(writable, b"%-20d\n" % os.getpid(), 0)
            finally:
                os.close(writable)
        return descriptor

    def is_current(self) -> bool:
        """Tell whether the path still leads to this home.

        It does not if the home was deleted, or something was mounted over it.
        """
        try:
            there = os.stat(self._lock_path)
        except OSError:
            return False
        return there.st_ino == self._lock_inode and there.st_dev == self._lock_device

    def claim(self, engine: str, driver: str, home_format: int) -> bool:
        """Record the engine and the driver of this home, or check the record that is there.

        Called before the driver's init, since that may change the content of the home.

        Args:
            engine: ``docker`` or ``containerd``: neither knows the other's layers.
            driver: the driver's name.
            home_format: the version of its layout on disk.

        Returns:
            Whether the record was there already.

        Raises:
            UnsupportedError: it belongs to another engine, driver or version; the text names both.
        """
        mine = {"engine": engine, "driver": driver, "format": home_format}
        there = _read_identity(self.path)
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
        """Record whether the driver promises exact diffs, or check the record that is there.

        Raises:
            UnsupportedError: the promise has changed: the daemon could not use its old layers.
        """
        there = _read_identity(self.path) or {}
        promised = there.get("reproduces_exact_diffs")
        if promised is None:
            write_whole(
                self._identity, json.dumps(there | {"reproduces_exact_diffs": exact_diffs}), 0o600
            )
        elif promised is not exact_diffs:
            raise UnsupportedError(
                f"the layers in {self.path} were kept {_with(not exact_diffs)} the promise of exact"
                f" diffs, and the driver is set up {_with(exact_diffs)} it",
                hint="restore the previous setting, or use another home",
            )

    def close(self) -> None:
        """Unlock the home."""
        os.close(self._lock)

    # --- marks ------------------------------------------------------------------------------------

    def is_unfinished(self, id: str) -> bool:
        """Tell whether the layer has the mark."""
        return id in self._unfinished

    def unfinished(self) -> list[str]:
        """Return the layers that have the mark."""
        return sorted(self._unfinished)

    def mark(self, id: str) -> None:
        """Mark a layer as unfinished; called before its first byte is written."""
        # No fsync: the mark is in the filesystem's journal before the layer's content, so no crash
        # leaves content without it.
        os.close(os.open(self._mark(id), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._unfinished.add(id)

    def unmark(self, id: str) -> None:
        """Remove the mark of a layer that is complete, or removed."""
        if id not in self._unfinished:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._mark(id))
        self._unfinished.discard(id)

    def unmark_all_but(self, exists: Callable[[str], bool]) -> None:
        """Remove the marks of layers that do not exist: left by a kill between a Remove and its unmark.

        Args:
            exists: tells whether a layer exists.
        """
        for id in [id for id in self._unfinished if not exists(id)]:
            with contextlib.suppress(OSError):  # a read-only filesystem can still be served
                self.unmark(id)

    def unmark_synced(self, id: str, filesystem: int) -> None:
        """Wait until a layer is on disk, and remove its mark for good.

        Args:
            id: the layer.
            filesystem: a descriptor from `open`, opened before the first write: syncfs(2) reports
                the writeback errors that happened since then (since Linux 5.8).

        Raises:
            OSError: something could not be written; the mark stays.
        """
        # In this order: a crash at any point leaves the mark, or a layer that is on disk.
        syncfs(filesystem)
        descriptor = os.open(self._marks, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.unlink(self._mark(id))
            try:
                # Before the answer: otherwise a power cut could bring the mark back, and a layer that
                # the daemon relies on would be refused.
                os.fsync(descriptor)
            except BaseException:
                self.mark(id)  # the call fails, so the layer must be refused from now on
                raise
        finally:
            os.close(descriptor)
        self._unfinished.discard(id)

    def sync(self) -> None:
        """Wait until everything that was written in the home is on disk.

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


def _read_identity(home: str) -> dict[str, object] | None:
    path = os.path.join(home, IDENTITY)
    try:
        there = read_object(path)
        if wrong := _wrong_member(there):
            raise ValueError(f"{wrong} is wrong or missing")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise GraphDriverError(
            f"{path} is damaged, so the home's engine and driver are unknown: {error}",
            hint="restore it, or remove the home with all its layers",
        ) from error
    return there


def _open_for_writing(descriptor: int, path: str) -> None:
    """Reopen a lock's file for writing under the same descriptor, since NFS locks no other files.

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


def _with(exact_diffs: bool) -> str:
    return "with" if exact_diffs else "without"
