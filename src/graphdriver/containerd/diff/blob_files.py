"""The files of containerd's content store: a blob that a driver need not copy.

A blob's file is named by its digest and never changes: containerd writes it under another name, syncs
it, and removes it when nothing refers to it (containerd, plugins/content/local). So a driver may give
it another name, and read it by that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Final

from graphdriver.blobs.digests import is_digest
from graphdriver.errors import BrokenStreamError

_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_HERE: Final = frozenset(
    {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOENT, errno.EOPNOTSUPP}
)
"""Another filesystem (or subvolume), too many names, a filesystem without hard links."""


class BlobFile:
    """A blob's file, as a stream (`graphdriver.files.file_stream.FileStream`).

    Args:
        fd: the file; closed by `close`.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._is_broken = False

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes, ``b""`` at the end.

        Raises:
            BrokenStreamError: it was broken off.
            OSError: the file cannot be read.
        """
        if self._is_broken:
            raise BrokenStreamError("the caller is gone")
        return os.read(self._fd, n)

    def break_off(self) -> None:
        """Let the next `read` raise an error, in whichever thread it is."""
        self._is_broken = True

    def link(self, path: str) -> bool:
        """Give the file one more name; see `graphdriver.files.file_stream.FileStream.link`."""
        try:
            # By descriptor, so that it is the file that is read; with one as its directory, too, since
            # os.link does not follow links otherwise.
            os.link(f"/proc/self/fd/{self._fd}", path, src_dir_fd=self._fd, follow_symlinks=True)
        except OSError as error:
            if error.errno in _NOT_HERE:
                return False
            raise
        return True

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def open_blob(root: str, digest: str) -> BlobFile | None:
    """Open a blob's file.

    Args:
        root: the content store's directory; ``""`` if it is not known.
        digest: the blob's.

    Returns:
        The file; None if it cannot be found or opened.
    """
    if not (root and is_digest(digest)):
        return None
    with contextlib.suppress(OSError):
        fd = os.open(f"{root}/blobs/{digest.replace(':', '/')}", _READ)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return BlobFile(fd)
        os.close(fd)
    return None
