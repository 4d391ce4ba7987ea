"""The threads that serve connections: one waits for all of them, and answers what comes by itself.

A thread for each connection would be simpler and half as fast: threads that wake up for a small call
each hand Python's lock to one another at every system call.

- One thread *leads*: it waits for all connections at once, and serves the ones that something came on.
- One *stands by*: as long as there are calls it looks every `TICK` seconds what the leader is at. If
  that is still the same connection, it takes the lead; the other one goes on with its call, gives the
  connection back, and stands by in its turn.

So whatever a connection has to wait for, a mount, a lock, the rest of a body, costs the other ones
two ticks, once; and there are as many threads as there are calls that take long.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

TICK: Final = 0.001
"""How often the leader is looked at, in seconds."""

QUIET: Final = 100
"""After how many ticks without a call it is not looked at any more, until there is one."""

SPARE: Final = 8
"""How many threads are kept for calls that take long, though there are none."""

_RETRY: Final = 0.1
_AT_ONCE: Final = 64

_log = logging.getLogger(__name__)


class HasDescriptor(Protocol):
    """What can be waited for."""

    def fileno(self) -> int:
        """Return its descriptor."""
        ...


C = TypeVar("C", bound=HasDescriptor)


class _Lead:
    """What a thread is at while it leads."""

    __slots__ = ("at", "served")

    def __init__(self) -> None:
        self.served = 0
        self.at: int | None = None
        """The descriptor of the connection that is being served."""


class Workers(Generic[C]):
    """Serves connections, each to its end.

    Args:
        serve: takes what came on a connection; returns whether more may come. It must not raise.
        end: is called with a connection on which no more comes.
    """

    def __init__(self, serve: Callable[[C], bool], end: Callable[[C], None]) -> None:
        self._serve = serve
        self._end = end
        self._connections: dict[int, C] = {}
        self._epoll = select.epoll()
        self._closed = os.eventfd(0, os.EFD_CLOEXEC)
        self._epoll.register(self._closed, select.EPOLLIN)
        self._state = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._lead: _Lead | None = None
        self._standby = threading.Lock()
        self._standing = 0
        """How many threads stand by, or wait to."""
        self._calls = threading.Event()
        self._closing = False
        self._in_trouble = False

    def take(self, connection: C) -> None:
        """Serve a connection from now on.

        Raises:
            RuntimeError: there is no thread that could, and none can be started; or all is over.
            OSError: the kernel has no room for one more that is waited for.
        """
        with self._state:
            if self._closing:
                raise RuntimeError("connections are not served any more")
            if not self._threads:
                self._start_one()
            self._connections[connection.fileno()] = connection
            try:
                self._epoll.register(connection, select.EPOLLIN)
            except BaseException:
                del self._connections[connection.fileno()]
                raise

    def close(self, *, wait: bool) -> None:
        """End the threads that serve nobody now, and the others when they are done.

        Args:
            wait: until all have ended.
        """
        with self._state:
            if self._closing:
                return
            self._closing = True
            threads = list(self._threads)
            if threads:
                os.eventfd_write(self._closed, 1)
            else:
                self._let_go()
        self._calls.set()
        if wait:
            for thread in threads:
                thread.join()

    # --- in each thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._standby:
                lead = self._stand_by()
            if lead:
                self._serve_as(lead)
            with self._state:
                if self._closing or self._standing >= SPARE:
                    self._threads.discard(threading.current_thread())
                    if self._closing and not self._threads:
                        self._let_go()
                    return
                self._standing += 1

    def _stand_by(self) -> _Lead | None:
        """Wait until the leader is held up, and take the lead; None when all is over."""
        seen: tuple[int | None, int] | None = None
        quiet = 0
        while not self._closing:
            lead = self._lead
            if lead is None:
                return self._take_lead()
            now = lead.at, lead.served
            if now != seen:
                quiet = 0
            elif lead.at is not None:
                mine = self._take_lead(lead)
                if mine:
                    return mine
            else:
                quiet += 1
            seen = now
            if quiet >= QUIET:
                quiet = 0
                self._calls.clear()
                if lead.at is None and not self._closing:
                    self._calls.wait()
            time.sleep(TICK)
        return None

    def _take_lead(self, before: _Lead | None = None) -> _Lead | None:
        """Lead, in the place of another thread unless that has just become free."""
        with self._state:
            if before:
                if before.at is None:
                    return None
                self._epoll.unregister(before.at)
            self._standing -= 1
            self._lead = _Lead()
            return self._lead

    def _serve_as(self, lead: _Lead) -> None:
        """Wait for all connections and serve them, until another thread leads."""
        while True:
            for number, _ in self._epoll.poll(None if self._is_stood_by() else _RETRY, _AT_ONCE):
                if number == self._closed:
                    return
                lead.served += 1
                lead.at = number
                if not self._calls.is_set():
                    self._calls.set()
                connection = self._connections[number]
                goes_on = self._serve(connection)
                with self._state:
                    lead.at = None
                    leads = self._lead is lead
                    if goes_on and not leads:
                        self._epoll.register(number, select.EPOLLIN)
                    elif leads and not goes_on:
                        self._epoll.unregister(number)
                    if not goes_on:
                        del self._connections[number]
                if not goes_on:
                    self._end(connection)
                if not leads:  # what else came is told to the one that leads now
                    return

    def _is_stood_by(self) -> bool:
        """See to it that a thread stands by; tell whether one does."""
        if self._standing:
            return True
        with self._state:
            try:
                self._start_one()
            except RuntimeError as error:
                if not self._in_trouble:
                    _log.error("a call that takes long keeps the others waiting: %s", error)
                self._in_trouble = True
                return False
            self._in_trouble = False
            return True

    # --- with the state held ----------------------------------------------------------------------

    def _start_one(self) -> None:
        thread = threading.Thread(target=self._work, name="worker", daemon=True)
        thread.start()
        self._threads.add(thread)
        self._standing += 1

    def _let_go(self) -> None:
        self._epoll.close()
        os.close(self._closed)
