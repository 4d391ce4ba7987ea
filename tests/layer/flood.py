"""A driver for layers that no machine here has room for: ``graphdriver serve tests.layer.flood:Flood``.

It is vfs, but a file of a layer is deleted as soon as it is written, by a second thread. So all that a
real ApplyDiff does is done, byte for byte, and no more than a file or two are there at a time.
"""

from __future__ import annotations

import os
import struct
import threading

from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.linux.libc import libc

KEPT = "kept"
"""How the IDs of layers begin of which nothing is deleted."""

_IN_CLOSE_WRITE = 0x08
_IN_IGNORED = 0x8000
_EVENT = struct.Struct("iIII")


class Flood(VfsDriver):
    """Full copies in plain folders, of files that do not last."""

    def get(self, id: str, mount_label: str) -> str:
        root = super().get(id, mount_label)
        if not id.startswith(KEPT):
            self._drain = _Drain(root)
        return root

    def put(self, id: str) -> None:
        if not id.startswith(KEPT):
            self._drain.stop()
        super().put(id)


class _Drain:
    """Deletes what is written in a folder, as the kernel tells it (inotify(7))."""

    def __init__(self, root: str) -> None:
        self._root = os.open(root, os.O_RDONLY)
        self._events = libc.inotify_init1(os.O_CLOEXEC)
        self._watch = libc.inotify_add_watch(self._events, os.fsencode(root), _IN_CLOSE_WRITE)
        assert self._watch > 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        libc.inotify_rm_watch(self._events, self._watch)
        self._thread.join()
        os.close(self._events)
        os.close(self._root)

    def _run(self) -> None:
        while True:
            events = os.read(self._events, 1 << 16)
            at = 0
            while at < len(events):
                _, mask, _, length = _EVENT.unpack_from(events, at)
                name = events[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
                at += _EVENT.size + length
                if mask & _IN_IGNORED:
                    return
                os.unlink(name, dir_fd=self._root)
