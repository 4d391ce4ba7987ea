"""How the C library keeps memory for threads."""

from __future__ import annotations

from graphdriver.linux.libc import libc

_M_ARENA_MAX = -8  # mallopt(3)


def share_heaps(count: int) -> None:
    """Let threads that begin from now on share so many heaps.

    By default glibc gives them eight for each processor, and each keeps what was freed in it. A
    process with a thread for each connection grows by that for hours, and gains nothing: under the
    interpreter's lock no two threads allocate at a time. Other C libraries are left as they are.
    """
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, count)
