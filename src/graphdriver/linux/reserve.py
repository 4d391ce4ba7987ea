"""Room on a filesystem that is given up when there is no other, so that what makes room needs none."""

from __future__ import annotations

import contextlib
import os

from graphdriver.linux.folders import make_folders
from graphdriver.linux.sync import syncfs


class Reserve:
    """Files of allocated blocks in a directory.

    Args:
        directory: where they are; it and missing directories above it are made with the first.
        files: how many: as many inodes are kept.
        size: bytes of each.
    """

    def __init__(self, directory: str, files: int, size: int) -> None:
        self._directory = directory
        self._paths = [os.path.join(directory, str(number)) for number in range(files)]
        self._size = size
        self._is_whole = False

    def make(self) -> None:
        """Make what is missing of it, as far as there is room. Nothing fails for the lack of it."""
        if self._is_whole:
            return
        with contextlib.suppress(OSError):
            make_folders(self._directory, 0o700)
            for path in self._paths:
                self._allocate(path)
            self._is_whole = True

    def _allocate(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self._size)
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(fd)

    def give_up(self) -> bool:
        """Delete it; return whether there was any of it.

        Raises:
            OSError: it cannot be deleted.
        """
        self._is_whole = False
        given_up = False
        for path in self._paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                given_up = True
        if given_up:
            self._wait_for_room()
        return given_up

    def _wait_for_room(self) -> None:
        """Wait until the room can be used: on btrfs, for the transaction to be committed."""
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):  # an earlier error of writing is not this one's
                syncfs(fd)
        finally:
            os.close(fd)
