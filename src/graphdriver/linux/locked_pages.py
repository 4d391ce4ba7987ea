"""A file's pages in memory, read where they are.

Reading a mapped file in place saves a copy. But where the kernel cannot read a page, or the file has
become shorter, it sends SIGBUS, and that ends the process. So a part is read only while

- it is locked: mlock(2) reads what is not in memory, and fails where that fails;
- nobody can make the file shorter: whoever opens it for writing waits for the end of a lease (fcntl(2),
  ``F_SETLEASE``), and the kernel gives no lease while somebody has it open for writing. It breaks a
  lease after 45 seconds; this one is held for a fraction of a millisecond.

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


class LockedPages:
    """A part of a file, mapped and locked in memory, and a lease of the file.

    Args:
        fd: a regular file, opened for reading only; borrowed.
        at: where the part begins, in bytes.
        size: its length in bytes.

    Attributes:
        data: the part, which must not be touched after `end_lease`.

    Raises:
        OSError: that is not possible: somebody writes to the file, it cannot be read, or this process
            may not lock memory.
    """

    def __init__(self, fd: int, at: int, size: int) -> None:
        self._fd = fd
        start = at - at % mmap.PAGESIZE
        self._size = ctypes.c_size_t(at + size - start)
        # Whoever waits for the end of a lease sends us a signal. SIGIO, the usual one, would end the
        # process; this one is ignored unless somebody wants it. The end of a lease sets it back.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        try:
            address = _mmap(
                *(None, self._size, mmap.PROT_READ, mmap.MAP_SHARED, fd, ctypes.c_long(start))
            )
            if address == _FAILED:
                raise_errno("mmap")
            self._address = ctypes.c_void_p(address)
            # The last page of a shorter file can be locked, too, and has zeros behind its end; pages
            # further on cannot.
            if libc.mlock(self._address, self._size):
                try:
                    raise_errno("mlock")
                finally:
                    self.close()
        except BaseException:
            self.end_lease()
            raise
        data = (ctypes.c_char * size).from_address(address + at - start)
        self.data = memoryview(data).cast("B")

    def end_lease(self) -> None:
        """Let others write to the file again."""
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def close(self) -> None:
        """Unlock and unmap the part."""
        libc.munmap(self._address, self._size)
