"""Reference counts: how many Gets of each layer have no Put yet, kept on disk for a restarted plugin.

A home's counts are files below ``/run/graphdriver/held``, one for each layer that was got. A count
holds the boot's ID, since mounts do not outlive a boot. The mount table takes precedence over the
counts:

- A layer that is not mounted has the count 0, even if its file has another one.
- A mounted layer with no count, or a damaged one, has the count 1: a mount that stays too long is
  better than one that is removed under a container.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from typing import Final

from graphdriver.files.directories import make_directories
from graphdriver.files.runtime_directory import (
    RUNTIME,
    boot_id,
    file_name,
    is_of_our_namespaces,
    mark_namespaces,
    path_of,
)
from graphdriver.files.small_files import read_text

COUNTS: Final = f"{RUNTIME}/held"

_STORED: Final = re.compile(r"(?P<boot>[0-9a-f-]{36}) (?P<count>[0-9]{1,9}) *")

_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
_LENGTH: Final = 64
"""Bytes of a count's file: always the same, so that one write replaces all of it."""

_log = logging.getLogger(__name__)


class ReferenceCounts:
    """The reference counts of the layers in a home.

    Args:
        home: its path.
        directory: where counts are kept, in one directory for each home.
    """

    def __init__(self, home: str, directory: str = COUNTS) -> None:
        _sweep(directory)
        self._directory = os.path.join(directory, file_name(home))
        self._boot = boot_id()
        self._counts: dict[str, int] = {}
        self._kept: set[str] = set()
        """The layers that may have a file, here and in no other process: the home is locked."""
        with contextlib.suppress(FileNotFoundError):
            self._kept.update(os.listdir(self._directory))

    def get(self, id: str, mounted: bool) -> int:
        """Return a layer's count, given whether the layer is mounted."""
        if not mounted:
            return 0
        if id not in self._counts:
            self._counts[id] = self._stored(id) or 1
        return self._counts[id]

    def is_one(self, id: str) -> bool:
        """Tell whether this process has set a layer's count to 1, or read it."""
        return self._counts.get(id) == 1

    def is_kept(self, id: str) -> bool:
        """Tell whether a layer may have a count on disk."""
        return id in self._kept

    def set(self, id: str, count: int) -> None:
        """Set a layer's count; 0 removes it.

        Raises:
            OSError: it cannot be written; the old count stays.
        """
        path = f"{self._directory}/{id}"
        if not count:
            self._counts.pop(id, None)
            if id in self._kept:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                self._kept.discard(id)
            return
        self._kept.add(id)
        try:
            fd = os.open(path, _WRITE, 0o600)
        except FileNotFoundError:
            make_directories(self._directory, 0o700)
            mark_namespaces(self._directory)
            fd = os.open(path, _WRITE, 0o600)
        try:
            # In place, not by rename: that needs no room, so a Put works on a full filesystem.
            if os.pwrite(fd, f"{self._boot} {count}".ljust(_LENGTH).encode(), 0) != _LENGTH:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            if os.fstat(fd).st_size != _LENGTH:  # a damaged file may be longer
                os.ftruncate(fd, _LENGTH)
        except BaseException:
            if os.fstat(fd).st_size != _LENGTH:  # it is new, and incomplete
                os.unlink(path)
            raise
        finally:
            os.close(fd)
        self._counts[id] = count

    def reset(self) -> None:
        """Remove all counts: from now on each mounted layer counts 1."""
        self._counts.clear()
        _remove_all(self._directory)
        self._kept.clear()

    def is_of_this_boot(self, id: str) -> bool:
        """Tell whether a layer has a count that was written since the machine started."""
        return self._stored(id) is not None

    def _stored(self, id: str) -> int | None:
        path = os.path.join(self._directory, id)
        try:
            found = _STORED.fullmatch(read_text(path))
            if found is None:
                raise ValueError("it does not hold a count")
        except FileNotFoundError:
            return None
        except ValueError as error:
            _log.warning("reference count %s is damaged (%s); layer %s counts 1", path, error, id)
            return None
        return int(found["count"]) if found["boot"] == self._boot else None


def kept_counts(home: str) -> dict[str, int | None]:
    """Return the counts of a home as they are on disk, None for a damaged one; change nothing.

    Counts of other mount namespaces are left out: whether a layer is mounted there is not seen here.
    """
    directory = os.path.join(COUNTS, file_name(home))
    found: dict[str, int | None] = {}
    if not is_of_our_namespaces(directory):
        return found
    for id in os.listdir(directory):
        if id.startswith("."):
            continue
        with contextlib.suppress(FileNotFoundError):
            try:
                stored = _STORED.fullmatch(read_text(os.path.join(directory, id)))
            except ValueError:
                stored = None
            if stored is None:
                found[id] = None
            elif stored["boot"] == boot_id():
                found[id] = int(stored["count"])
    return found


def _sweep(directory: str) -> None:
    """Remove the counts of homes that no longer exist: nothing can be mounted there."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(directory):
            home, counts = path_of(name) or "", os.path.join(directory, name)
            is_gone = home.startswith("/") and not os.path.isdir(home)
            # A home that is invisible here may exist in another mount namespace.
            if is_gone and is_of_our_namespaces(counts):
                _remove_all(counts)


def _remove_all(counts: str) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # a file there is not ours
        for id in os.listdir(counts):
            os.unlink(os.path.join(counts, id))
        os.rmdir(counts)
