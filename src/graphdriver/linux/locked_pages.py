"""A file's pages in memory, read where they are.

Reading a mapped file in place saves a copy. But where the kernel cannot read a page, or the file has
become shorter, it sends SIGBUS, and that ends the process. So a part is read only while

- it is locked: mlock(2) reads what is not in memory, and fails where that fails;
- nobody can make the file shorter: whoever opens it for writing waits for the end of a lease (fcntl(2),
  ``F_SETLEASE``), and there is none while somebody has it open for writing. The kernel breaks a lease
  after 45 seconds; it is held for a fraction of a millisecond.

A lease and locked pages are this kernel's. Files that other machines can change need another way.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import signal

from graphdriver.linux.libc import libc, raise_errno

_mmap = libc.mmap
_mmap.restype = ctypes.c_void_p
_FAILED = ctypes.c_void_p(-1).value
_PAGE = mmap.PAGESIZE


class LockedPages:
    """The pages of a file, of which one part at a time is locked.

    Args:
        fd: a regular file, opened for reading only; borrowed.
        size: how much of it is mapped, in bytes.

    Raises:
        OSError: it cannot be mapped.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size
        address = _mmap(
            None,
            ctypes.c_size_t(size),
            mmap.PROT_READ,
            mmap.MAP_SHARED,
            fd,
            ctypes.c_long(0),
        )
        if address == _FAILED:
            raise_errno("mmap")
        self._address: int = address

    def lock(self, at: int, size: int) -> memoryview:
        """Take a lease of the file, and lock a part of it.

        Args:
            at: where the part begins.
            size: its length in bytes; it lies within what is mapped.

        Returns:
            The part, which must not be touched after `end_lease`.

        Raises:
            OSError: that is not possible: somebody writes to the file, it cannot be read, or this
                process may not lock memory. Nothing is locked then.
        """
        # Whoever waits for the end of a lease sends us a signal. SIGIO, the usual one, would end the
        # process; this one is ignored unless somebody wants it. The end of a lease sets it back.
        fcntl.fcntl(self._fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        try:
            # The last page of a shorter file can be locked too, and what is behind its end read as
            # zeros; pages further on cannot.
            if libc.mlock(*self._pages(at, size)):
                raise_errno("mlock")
        except BaseException:
            self.end_lease()
            raise
        return memoryview((ctypes.c_char * size).from_address(self._address + at)).cast("B")

    def end_lease(self) -> None:
        """Let others write to the file again."""
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def unlock(self, at: int, size: int) -> None:
        """Unlock a part."""
        libc.munlock(*self._pages(at, size))

    def close(self) -> None:
        """Unmap the file."""
        libc.munmap(ctypes.c_void_p(self._address), ctypes.c_size_t(self._size))

    def _pages(self, at: int, size: int) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
        start = at - at % _PAGE
        return ctypes.c_void_p(self._address + start), ctypes.c_size_t(at + size - start)
