"""Locks for layers: one call at a time for each layer, and none while its parent is changed.

A call has its own layer to itself. If it also reads the parent, it *shares* the parent: any number
of calls may share a layer, even while another call has that layer as its own. Only a call that
removes or fills a layer has it *exclusively*: no call shares the layer meanwhile. Otherwise a copy of
the parent could be made while files of it are removed or not yet written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import get_ident
from typing import NamedTuple


class Wait(NamedTuple):
    """The layer that a thread waits for, and the thread that holds its lock (`threading.get_ident`)."""

    layer: str
    holder: int


class LayerLocks:
    """A lock for each layer that a call uses, and none for the others."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)
        self._locks: dict[str, _Lock] = {}
        self._waiting: dict[int, str] = {}

    def held(self, id: str, parent: str | None = None, *, exclusive: bool = False) -> HeldLock:
        """Lock a layer for the length of a ``with`` block.

        Args:
            id: the layer.
            parent: the layer that is read as well, if any.
            exclusive: whether no other call may share the layer meanwhile.
        """
        return HeldLock(self, id, parent, exclusive)

    def acquire(self, id: str, exclusive: bool) -> None:
        """Wait until no other call owns the layer and, if exclusively, until no call shares it."""
        with self._guard:
            lock = self._locks.get(id)
            if lock is None:
                lock = self._locks[id] = _Lock()
            lock.users += 1
            if lock.holder:
                self._wait_while(lambda: bool(lock.holder), id)
            lock.holder = get_ident()
            if exclusive:
                if lock.sharers:
                    self._wait_while(lambda: bool(lock.sharers), id)
                lock.exclusive = True

    def release(self, id: str) -> None:
        """End what `acquire` began."""
        with self._guard:
            lock = self._locks[id]
            lock.holder = 0
            lock.exclusive = False
            self._unused(id, lock)

    def share(self, id: str) -> None:
        """Wait until no call has the layer exclusively, and share it until `unshare`."""
        with self._guard:
            lock = self._locks.get(id)
            if lock is None:
                lock = self._locks[id] = _Lock()
            lock.users += 1
            if lock.exclusive:
                self._wait_while(lambda: lock.exclusive, id)
            lock.sharers.append(get_ident())

    def unshare(self, id: str) -> None:
        """End what `share` began."""
        with self._guard:
            lock = self._locks[id]
            lock.sharers.remove(get_ident())
            self._unused(id, lock)

    def waits(self) -> dict[int, Wait]:
        """Return which threads wait now, and for what; of several holders one is named."""
        with self._guard:
            found = {}
            for thread, id in list(self._waiting.items()):
                lock = self._locks.get(id)
                if lock is None:
                    continue
                # The owner of a layer that still waits for it waits for those that share it.
                holder = lock.holder if lock.holder != thread else next(iter(lock.sharers), 0)
                if holder:
                    found[thread] = Wait(id, holder)
            return found

    def _wait_while(self, is_taken: Callable[[], bool], id: str) -> None:
        """Wait until a layer is not taken any more; the guard is held."""
        me = get_ident()
        self._waiting[me] = id
        self._changed.wait_for(lambda: not is_taken())
        del self._waiting[me]

    def _unused(self, id: str, lock: _Lock) -> None:
        """Drop the lock of a layer that no other call uses; the guard is held."""
        lock.users -= 1
        if not lock.users:
            del self._locks[id]
        elif self._waiting:  # one lock for all layers that are waited for: mostly nobody waits
            self._changed.notify_all()


class _Lock:
    """The lock of one layer.

    Attributes:
        holder: the thread of the call that has the layer as its own; 0: no call has it.
        exclusive: whether that call has it exclusively.
        sharers: the threads of the calls that share the layer.
        users: how many calls hold any of it, or wait for it; the lock is dropped with the last.
    """

    __slots__ = ("exclusive", "holder", "sharers", "users")

    def __init__(self) -> None:
        self.holder = 0
        self.exclusive = False
        self.sharers: list[int] = []
        self.users = 0


class HeldLock:
    """The lock of a layer for a ``with`` block; a class, since a generator costs microseconds a call.

    A layer and its parent are locked in the alphabetical order of their IDs. Otherwise two calls that
    each name the other's layer as the parent could wait for each other for ever.
    """

    __slots__ = ("_exclusive", "_id", "_locks", "_parent")

    def __init__(self, locks: LayerLocks, id: str, parent: str | None, exclusive: bool) -> None:
        self._locks = locks
        self._id = id
        self._parent = parent if parent and parent != id else None
        self._exclusive = exclusive

    def __enter__(self) -> None:
        if self._parent is None:
            self._locks.acquire(self._id, self._exclusive)
        elif self._parent < self._id:
            self._locks.share(self._parent)
            try:
                self._locks.acquire(self._id, self._exclusive)
            except BaseException:
                self._locks.unshare(self._parent)
                raise
        else:
            self._locks.acquire(self._id, self._exclusive)
            try:
                self._locks.share(self._parent)
            except BaseException:
                self._locks.release(self._id)
                raise

    def __exit__(self, *exc: object) -> None:
        self._locks.release(self._id)
        if self._parent:
            self._locks.unshare(self._parent)
