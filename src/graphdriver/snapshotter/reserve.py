"""Room beside the database, given up when its filesystem is full: so Remove never needs any.

To delete a row SQLite writes its log first, and to open a database it makes the file of that log. So
some files of allocated blocks lie beside the database. They are deleted, one after the other, when
something is to be removed and there is no room for that, and made again when there is.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Final

from graphdriver.linux.folders import make_folders
from graphdriver.linux.sync import syncfs

FILES: Final = 16
"""As many inodes are kept, too."""

SIZE: Final = 128 << 10
"""Bytes of each file, which is more than one removal writes."""


class Reserve:
    """The reserve of one database.

    Args:
        directory: where its files are; it and missing directories above it are made with the first.
    """

    def __init__(self, directory: str) -> None:
        self._files = [os.path.join(directory, str(number)) for number in range(FILES)]
        self._directory = directory
        self._lock = threading.Lock()
        self._is_whole = False

    def make(self) -> None:
        """Make the missing files of the reserve, as far as there is room; not while it is lent."""
        if self._is_whole or not self._lock.acquire(blocking=False):
            return
        try:
            # No call fails because there is no room for a reserve.
            with contextlib.suppress(OSError):
                make_folders(self._directory, 0o700)
                for path in self._files:
                    _allocate(path)
                self._is_whole = True
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def lent(self) -> Iterator[Callable[[], bool]]:
        """Lend the reserve for the length of a ``with`` block; nobody makes it again meanwhile.

        Yields:
            A function that deletes one more file of it, and returns False when none is left.
        """
        with self._lock:
            self._is_whole = False
            left = iter(self._files)

            def give() -> bool:
                for path in left:
                    with contextlib.suppress(OSError):  # it may be gone already
                        os.unlink(path)
                        self._settle()
                        return True
                return False

            yield give

    def _settle(self) -> None:
        """Wait until the room can be used: on btrfs that is so after a commit."""
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):
                syncfs(descriptor)
        finally:
            os.close(descriptor)


def _allocate(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, SIZE)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
