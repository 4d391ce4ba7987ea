"""Faults in how many callers are served at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import ClassVar

from graphdriver.driver import ClosableStream, ReadStream
from graphdriver.errors import GraphDriverError
from tests.conformance.plugin.faults.fault import Broken, caught_by
from tests.conformance.plugin.faults.proxy import Answer, Proxy, Request


@caught_by("concurrency/applied-while-a-diff-is-read")
class OneCallAtATime(Proxy):
    """A call begins when the last one's answer is sent."""

    _turn: ClassVar[threading.Lock] = threading.Lock()
    _is_mine = False

    def exchange(self, request: Request) -> Answer:
        self._turn.acquire()
        self._is_mine = True
        answer = super().exchange(request)
        answer.body = self._sent(answer.body)
        return answer

    def _sent(self, body: Iterator[bytes]) -> Iterator[bytes]:
        yield from body
        self._over()

    def _over(self) -> None:
        if self._is_mine:
            self._is_mine = False
            self._turn.release()

    def close(self) -> None:
        super().close()
        self._over()


@caught_by("concurrency/diffs-at-once")
class OneDiffAtATime(Broken):
    """A Diff ends the one before it."""

    _last: _Ended | None = None

    def diff(self, id: str, parent: str) -> ClosableStream:
        if self._last:
            self._last.is_over = True
        self._last = _Ended(super().diff(id, parent))
        return self._last


class _Ended:
    def __init__(self, whole: ClosableStream) -> None:
        self._whole = whole
        self.is_over = False

    def read(self, n: int, /) -> bytes:
        return b"" if self.is_over else self._whole.read(n)

    def close(self) -> None:
        self._whole.close()


@caught_by("concurrency/sixty-four-connections")
class ThirtyTwoConnections(Proxy):
    """Connections beyond 32 wait until others end."""

    _places: ClassVar[threading.Semaphore] = threading.Semaphore(32)

    def __init__(self, path: str) -> None:
        self._places.acquire()
        super().__init__(path)
        self._is_open = True

    def close(self) -> None:
        super().close()
        if self._is_open:
            self._is_open = False
            self._places.release()


@caught_by("concurrency/callers-with-layers-of-their-own")
class AppliesToTheLastLayer(Broken):
    """ApplyDiff fills the layer that was created last, whoever did that."""

    _last = ""

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        super().create(id, parent, mount_label, storage_opt)
        self._last = id

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        return super().apply_diff(self._last, parent, archive)


@caught_by("concurrency/children-of-one-parent-at-once")
class OneChildAtATime(Broken):
    """A parent that is being copied is busy."""

    def __init__(self) -> None:
        super().__init__()
        self._copying = threading.Lock()

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        if not self._copying.acquire(blocking=False):
            raise GraphDriverError(f"{parent} is busy")
        try:
            super().create(id, parent, mount_label, storage_opt)
            time.sleep(0.05)
        finally:
            self._copying.release()


@caught_by("concurrency/same-layer-from-many")
class EveryCreateSucceeds(Proxy):
    """Whoever creates a layer that another caller has just made is told that he made it."""

    def exchange(self, request: Request) -> Answer:
        answer = super().exchange(request)
        if request.call == "Create" and answer.status != 200:
            answer.whole()
            return Answer.of(200, b"{}")
        return answer
