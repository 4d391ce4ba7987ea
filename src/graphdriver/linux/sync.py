"""syncfs(2): a filesystem's own sync, for layers that are told to be done."""

from __future__ import annotations

from graphdriver.linux.libc import libc, raise_errno


def syncfs(fd: int) -> None:
    """Write all that the filesystem holds to its disk, and wait.

    Args:
        fd: anything open on that filesystem, not `O_PATH`. Errors of writing back are told to
            descriptors that were open when they happened (Linux 5.8), so open it before the first
            write.

    Raises:
        OSError: a write failed, now or since ``fd`` was opened.
    """
    if libc.syncfs(fd):
        raise_errno("syncfs")
