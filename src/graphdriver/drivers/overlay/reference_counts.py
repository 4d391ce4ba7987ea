"""How many gets of each layer are not put yet, kept where a restarted plugin finds it.

A count is a file below /run, with the boot's ID, since mounts do not outlive a boot. The mount table
has the last word: what is not mounted is held by nobody, and what is mounted without a count is held
once, since to leave a mount is better than to pull one away under a container.
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

FOLDER: Final = f"{RUNTIME}/held"

_STORED: Final = re.compile(r"(?P<boot>[0-9a-f-]{36}) (?P<count>[0-9]{1,9}) *")

_COUNT: Final = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
_LENGTH: Final = 64
"""Bytes of a count's file: always as many, so that one write replaces it whole."""

_log = logging.getLogger(__name__)


class Holds:
    """The counts of one home's layers.

    Args:
        home: its path.
        folder: where counts are kept, in a folder for each home.
    """

    def __init__(self, home: str, folder: str = FOLDER) -> None:
        _sweep(folder)
        self._folder = os.path.join(folder, file_name(home))
        self._boot = boot_id()
        self._counts: dict[str, int] = {}

    def of(self, id: str, mounted: bool) -> int:
        """Return how often a layer is held, given whether it is mounted."""
        if not mounted:
            return 0
        if id not in self._counts:
            self._counts[id] = self._read(id)
        return self._counts[id]

    def set(self, id: str, count: int) -> None:
        """Set a count; 0 forgets the layer.

        Raises:
            OSError: it cannot be kept.
        """
        path = os.path.join(self._folder, id)
        if not count:
            self._counts.pop(id, None)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        try:
            fd = os.open(path, _COUNT, 0o600)
        except FileNotFoundError:
            make_directories(self._folder, 0o700)
            mark_namespaces(self._folder)
            fd = os.open(path, _COUNT, 0o600)
        try:
            # In place, for that needs no room: a Put works where nothing new can be written.
            if os.pwrite(fd, f"{self._boot} {count}".ljust(_LENGTH).encode(), 0) != _LENGTH:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            os.ftruncate(fd, _LENGTH)  # one that was damaged may be longer
        except BaseException:
            if os.fstat(fd).st_size != _LENGTH:  # it is new, and not whole
                os.unlink(path)
            raise
        finally:
            os.close(fd)
        self._counts[id] = count

    def forget_all(self) -> None:
        """Forget all counts: who is still mounted is held once from now on."""
        self._counts.clear()
        _remove_all(self._folder)

    def was_counted(self, id: str) -> bool:
        """Tell whether there is a count of this boot for a layer."""
        return self._stored(id) is not None

    def _read(self, id: str) -> int:
        return self._stored(id) or 1

    def _stored(self, id: str) -> int | None:
        path = os.path.join(self._folder, id)
        try:
            found = _STORED.fullmatch(read_text(path))
            if found is None:
                raise ValueError("it holds something else than a count")
        except FileNotFoundError:
            return None
        except ValueError as error:
            _log.warning("%s is damaged (%s); layer %s counts as held once", path, error, id)
            return None
        return int(found["count"]) if found["boot"] == self._boot else None


def _sweep(folder: str) -> None:
    """Remove the counts of homes that are gone: nothing can be mounted there."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            home, counts = path_of(name) or "", os.path.join(folder, name)
            is_gone = home.startswith("/") and not os.path.isdir(home)
            if is_gone and is_of_our_namespaces(counts):
                _remove_all(counts)


def _remove_all(counts: str) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # a file there is nobody's
        for id in os.listdir(counts):
            os.unlink(os.path.join(counts, id))
        os.rmdir(counts)
