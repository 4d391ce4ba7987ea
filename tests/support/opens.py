"""A check that files are not opened, by inotify(7)."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator

from graphdriver.linux.libc import libc

_IN_OPEN = 0x20
_IN_DONT_FOLLOW = 0x02000000
_EVENT = struct.Struct("iIII")


@contextlib.contextmanager
def watched(paths: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Give a list of the paths that were opened during the ``with`` block, complete at its end.

    An open with `O_PATH` does not count, since the kernel does not report it. The entries of a
    directory are not watched with it.
    """
    opened: list[bytes] = []
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        names: dict[int, bytes] = {}
        for path in paths:
            watch = libc.inotify_add_watch(fd, path, _IN_OPEN | _IN_DONT_FOLLOW)
            assert watch > 0, path
            names[watch] = path
        yield opened
        with contextlib.suppress(BlockingIOError):
            while events := os.read(fd, 1 << 16):
                at = 0
                while at < len(events):
                    watch, mask, _, length = _EVENT.unpack_from(events, at)
                    at += _EVENT.size + length
                    if mask & _IN_OPEN and not length:
                        opened.append(names[watch])
    finally:
        os.close(fd)
