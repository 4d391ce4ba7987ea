"""Work that goes on in a thread of its own until it is told to stop."""

from __future__ import annotations

import abc
import threading
from typing import Self


class Endless(abc.ABC):
    """Does something again and again for a ``with`` block, whose end raises what failed."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping.set()
        self._thread.join()
        self.raise_failure()

    @abc.abstractmethod
    def do_once(self) -> None:
        """Do it once more."""

    def raise_failure(self) -> None:
        """Raise what has failed, if something has."""
        if self._failed:
            raise self._failed[0]

    def _run(self) -> None:
        try:
            while not self.stopping.is_set():
                self.do_once()
        except BaseException as error:
            self._failed.append(error)
