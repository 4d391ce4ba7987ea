"""Room on a filesystem that is given up when there is no other, so that what makes room needs none.

It is kept as files of allocated blocks. They are deleted, one after the other, when something is to be
removed and there is no room for that, and made again when there is.
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
        directory: where they are; it and missing directories above it are made with the first.
        files: how many; as many inodes are kept, too.
        size: bytes of each.
    """

    def __init__(self, directory: str, files: int, size: int) -> None:
        self._files = [os.path.join(directory, str(number)) for number in range(files)]
        self._directory = directory
        self._size = size
        self._lock = threading.Lock()
        self._is_whole = False

    def make(self) -> None:
        """Make what is missing of it, as far as there is room; not while it is lent."""
        if self._is_whole or not self._lock.acquire(blocking=False):
            return
        try:
            # No call fails because there is no room for a reserve.
            with contextlib.suppress(OSError):
                make_directories(self._directory, 0o700)
                for path in self._files:
                    self._allocate(path)
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

    def _allocate(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size)
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(descriptor)
