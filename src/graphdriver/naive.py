"""`NaiveDiffDriver`: any `ProtoDriver` becomes a `Driver`.

A layer's changes are found by getting it and its parent and comparing the two trees; a layer's tar is
written into the directory that `get` returns. This works for every driver that can show a layer as a
directory, so drivers with a faster way use it for the cases that their way does not cover.

The rules:

- Each get has exactly one put, also after an error. A parent is put as soon as the comparison is over,
  the layer itself when its stream is closed.
- The differ's own gets and puts keep the contract too: the wrapped driver never sees two calls at a
  time for one layer. Other calls may use a parent while it is compared.
- All other calls reach the wrapped driver unchanged, and its optional abilities are found through the
  wrapper (`graphdriver.abilities.ability`).
- Times are compared to the nanosecond, where the filesystem has nanoseconds; nothing waits for the
  clock.
"""

# ruff: noqa: D102 - graphdriver.driver documents the methods
from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from graphdriver import returned
from graphdriver.abilities import TellsTouched, TellsUntouched, ability
from graphdriver.driver import (
    Change,
    ClosableStream,
    Driver,
    IDMap,
    ProtoDriver,
    ReadStream,
    mounted,
)
from graphdriver.layer.change_list import Changed, ChangeList, changed_size
from graphdriver.layer.changes import compare
from graphdriver.layer.pack import pack
from graphdriver.layer.unpack import unpack
from graphdriver.locks import LayerLocks

T = TypeVar("T")


class NaiveDiffDriver(Driver):
    """A wrapper that adds the five methods of a `Driver` to a `ProtoDriver`, by comparing directories.

    Args:
        proto: the driver that keeps the layers. `graphdriver.abilities.ability` finds its optional
            abilities through the wrapper.
    """

    def __init__(self, proto: ProtoDriver) -> None:
        self.proto = proto
        self._locks = LayerLocks()
        self._uid_maps: tuple[IDMap, ...] = ()
        self._gid_maps: tuple[IDMap, ...] = ()
        if type(self) is NaiveDiffDriver:
            # For other drivers these are class variables, also for drivers that extend this class. A
            # wrapper has those of the driver that it wraps.
            vars(self).update(
                driver_name=proto.driver_name or type(proto).__name__, home_format=proto.home_format
            )

    # --- calls of the wrapped driver --------------------------------------------------------------

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        self.proto.init(home, options, uid_maps, gid_maps)
        self._uid_maps = tuple(uid_maps)
        self._gid_maps = tuple(gid_maps)

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        with self._locks.held(id):
            self.proto.create(id, parent, mount_label, storage_opt)

    def create_read_write(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        with self._locks.held(id):
            self.proto.create_read_write(id, parent, mount_label, storage_opt)

    def remove(self, id: str) -> None:
        with self._locks.held(id):
            self.proto.remove(id)

    def get(self, id: str, mount_label: str) -> str:
        with self._locks.held(id):
            return returned.directory(self.proto.get(id, mount_label))

    def put(self, id: str) -> None:
        with self._locks.held(id):
            self.proto.put(id)

    def exists(self, id: str) -> bool:
        with self._locks.held(id):
            return self.proto.exists(id)

    def status(self) -> Sequence[tuple[str, str]]:
        return self.proto.status()

    def get_metadata(self, id: str) -> Mapping[str, str]:
        with self._locks.held(id):
            return self.proto.get_metadata(id)

    def cleanup(self) -> None:
        self.proto.cleanup()

    # --- calls made by comparing directories ------------------------------------------------------

    def diff(self, id: str, parent: str) -> ClosableStream:
        with contextlib.ExitStack() as held:
            upper = held.enter_context(self._root(id))
            listed = self._compared(upper, id, parent, ChangeList) if parent else None
            stream = pack(upper, listed, uid_maps=self._uid_maps, gid_maps=self._gid_maps)
            return _LayerStream(stream, held.pop_all())

    def changes(self, id: str, parent: str) -> Iterable[Change]:
        with self._root(id) as upper:
            return self._compared(upper, id, parent, ChangeList)

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        with self._root(id) as root:
            return unpack(archive, root, uid_maps=self._uid_maps, gid_maps=self._gid_maps).size

    def diff_size(self, id: str, parent: str) -> int:
        with self._root(id) as upper:
            return self._compared(upper, id, parent, changed_size)

    def _compared(
        self, upper: int, id: str, parent: str, use: Callable[[Iterator[Changed]], T]
    ) -> T:
        """Compare a layer with another one, and return what ``use`` makes of the changes."""
        if not parent:
            return use(compare(upper, None))
        copies = ability(self.proto, TellsUntouched)
        stamp = copies.untouched_since(id, parent) if copies else None
        snapshots = ability(self.proto, TellsTouched)
        with self._root(parent) as lower:
            touched = snapshots.touched_since(upper, lower) if snapshots else None
            return use(compare(upper, lower, untouched_before_ns=stamp, touched=touched))

    @contextlib.contextmanager
    def _root(self, id: str) -> Iterator[int]:
        """Get a layer and open its root directory; put it afterwards."""
        with mounted(self, id) as path:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield fd
            finally:
                os.close(fd)


class _LayerStream:
    """A stream that holds its layer until it is closed."""

    def __init__(self, stream: ClosableStream, held: contextlib.ExitStack) -> None:
        self._held = held
        self._held.callback(stream.close)
        self.read = stream.read

    def close(self) -> None:
        self._held.close()
