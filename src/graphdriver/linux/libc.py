"""The C library: system calls that Python does not wrap, and its memory."""

from __future__ import annotations

import ctypes
import os
from typing import NoReturn

libc = ctypes.CDLL(None, use_errno=True)
"""Its calls release the interpreter lock and keep errno for `raise_errno`."""

_M_ARENA_MAX = -8  # mallopt(3)


def raise_errno(what: str) -> NoReturn:
    """Raise the `OSError` of the call that just failed.

    Raises:
        OSError: always, with ``what`` as its file name.
    """
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), what)


def limit_arenas(count: int) -> None:
    """Limit the arenas that glibc allocates memory from; other C libraries are left as they are.

    By default there are eight for each processor, and each keeps its freed memory. So a process with a
    thread for each connection grows for hours. It gains nothing by that: under the interpreter lock no
    two threads allocate at the same time.
    """
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, count)
