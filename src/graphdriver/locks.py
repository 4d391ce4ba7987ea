"""One call at a time for each layer, and none for a layer that another one changes beneath it.

A call has its own layer to itself. Where it reads a parent as well, it *stands* on that: any number of
calls may, while others use the parent for themselves. But a call that ends a layer or fills it is
*alone*: nobody stands on the layer meanwhile, or a copy of the parent could miss what just went.
"""

from __future__ import annotations

import threading


class LayerLocks:
    """A lock for each layer that somebody is at, and none for the others."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)
        self._locks: dict[str, _Lock] = {}

    def held(self, id: str, parent: str | None = None, *, alone: bool = False) -> HeldLock:
        """Hold the lock of one layer for a ``with`` block.

        Args:
            id: the layer.
            parent: the layer that is read as well, if there is one.
            alone: whether nobody may stand on the layer meanwhile.
        """
        return HeldLock(self, id, parent, alone)

    def take(self, id: str, alone: bool) -> None:
        """Wait until nobody else is at the layer."""
        with self._guard:
            lock = self._used(id)
        lock.turn.acquire()
        if alone:
            with self._guard:
                while lock.standing:
                    self._changed.wait()
                lock.alone = True

    def release(self, id: str) -> None:
        """Let the next one at it."""
        with self._guard:
            lock = self._locks[id]
            if lock.alone:
                lock.alone = False
                self._changed.notify_all()
            self._leave(id, lock)
        lock.turn.release()

    def stand(self, id: str) -> None:
        """Wait until nobody is alone at the layer, and keep it so."""
        with self._guard:
            lock = self._used(id)
            while lock.alone:
                self._changed.wait()
            lock.standing += 1

    def step_off(self, id: str) -> None:
        """Stand there no longer."""
        with self._guard:
            lock = self._locks[id]
            lock.standing -= 1
            if not lock.standing:
                self._changed.notify_all()
            self._leave(id, lock)

    def _used(self, id: str) -> _Lock:
        lock = self._locks.get(id)
        if lock is None:
            lock = self._locks[id] = _Lock()
        lock.users += 1
        return lock

    def _leave(self, id: str, lock: _Lock) -> None:
        lock.users -= 1
        if not lock.users:
            del self._locks[id]


class _Lock:
    __slots__ = ("alone", "standing", "turn", "users")

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.alone = False
        self.standing = 0
        self.users = 0
        """Who holds any of it, or waits for it."""


class HeldLock:
    """A ``with`` block's hold of a layer; a class, since a generator costs microseconds a call.

    Of two layers the one whose ID comes first is taken first, so that two calls that name each
    other's layer as the parent do not wait for each other.
    """

    __slots__ = ("_alone", "_id", "_locks", "_parent")

    def __init__(self, locks: LayerLocks, id: str, parent: str | None, alone: bool) -> None:
        self._locks = locks
        self._id = id
        self._parent = parent if parent and parent != id else None
        self._alone = alone

    def __enter__(self) -> None:
        if self._parent is None:
            self._locks.take(self._id, self._alone)
        elif self._parent < self._id:
            self._locks.stand(self._parent)
            try:
                self._locks.take(self._id, self._alone)
            except BaseException:
                self._locks.step_off(self._parent)
                raise
        else:
            self._locks.take(self._id, self._alone)
            try:
                self._locks.stand(self._parent)
            except BaseException:
                self._locks.release(self._id)
                raise

    def __exit__(self, *exc: object) -> None:
        self._locks.release(self._id)
        if self._parent:
            self._locks.step_off(self._parent)
