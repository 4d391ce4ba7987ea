"""The steps of a call that may take long: ``parse``, ``write``, ``sync`` and ``mount``.

The code that makes a step names it here, and does not know who watches (`graphdriver.serving.tracing`).
Without a watcher a step costs a tenth of a microsecond.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

Step = contextlib.AbstractContextManager[object]
BeginStep = Callable[[str], Step]


class _Watcher:
    begin: BeginStep | None = None


_watcher: Final = _Watcher()
_unwatched: Final[Step] = contextlib.nullcontext()


def step(name: str) -> Step:
    """Return what a ``with`` statement needs around a step.

    Args:
        name: one of those above.
    """
    return _unwatched if _watcher.begin is None else _watcher.begin(name)


def watch_steps(begin: BeginStep | None) -> None:
    """Let a function begin each step from now on; with None nothing watches."""
    _watcher.begin = begin
