"""Disk space kept in reserve, so that a removal works on a full filesystem.

The reserve is a number of files with allocated blocks. When a removal finds no space, they are deleted
one after the other; later they are made again.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from graphdriver.files.directories import make_directories
from graphdriver.linux.filesystem import syncfs


class Reserve:
    """Files of allocated blocks in a directory.

    Args:
        directory: their directory; it is made with the first file.
        files: their number; as many inodes are kept in reserve, too.
        size: of each, in bytes.
    """

    def __init__(self, directory: str, files: int, size: int) -> None:
        self._files = [os.path.join(directory, str(number)) for number in range(files)]
        self._directory = directory
        self._size = size
        self._lock = threading.Lock()
        self._is_whole = False

    def make(self) -> None:
        """Make the missing files, as far as there is space; do nothing while the reserve is lent."""
        if self._is_whole or not self._lock.acquire(blocking=False):
            return
        try:
            # A missing reserve must not fail a call or end the remover's thread.
            with contextlib.suppress(OSError, MemoryError):
                make_directories(self._directory, 0o700)
                for path in self._files:
                    self._allocate(path)
                self._is_whole = True
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def lent(self) -> Iterator[Callable[[], bool]]:
        """Lend the reserve for a ``with`` block, in which no thread makes it again.

        Yields:
            A function that deletes one more file, and returns False when none is left.
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
        """Wait until the space can be used: btrfs frees it with its next commit."""
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):
                syncfs(descriptor)
        finally:
            os.close(descriptor)

    def _allocate(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size)
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(descriptor)
