"""Whether a store answers: the log says so once when it stops, and once when it answers again.

A node starts without its store, pulls as usual while that is away, and uses it when it is there.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from graphdriver.errors import BadArchiveError, UnsupportedError
from graphdriver.shared.keys import link_key
from graphdriver.shared.store import AwayError, DeniedError, NotStoredError, Store

PAUSE: Final = 10.0
"""How long a store that gave no answer in time is left alone, in seconds: each layer would wait."""

AGAIN: Final = 30.0
"""How soon a store that is away is asked again, in seconds."""

_T = TypeVar("_T")
_NO_LAYER: Final = link_key(f"sha256:{'0' * 64}")

_log = logging.getLogger(__name__)


def when_there(do: Callable[[], _T], is_closed: threading.Event) -> _T | None:
    """Do something with a store, as soon as it is not away; return what it returns.

    Args:
        do: raises `AwayError` while the store is away, and is called again after `AGAIN` seconds.
        is_closed: ends the waiting; None is returned then.
    """
    while not is_closed.is_set():
        with contextlib.suppress(AwayError):
            return do()
        is_closed.wait(AGAIN)
    return None


class Availability:
    """Whether a store answers, as far as is known.

    Args:
        store: the store; it is used by those who call `asking`, and by `ask_once`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._is_away = False
        self._was_denied = False
        self._silent_until = 0.0

    @property
    def is_worth_asking(self) -> bool:
        """Whether an answer can be expected: nobody waited in vain just now."""
        return time.monotonic() >= self._silent_until

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Note whether the store answers what is asked inside of a ``with`` block.

        Raises:
            AwayError: it did not; the log says it if it did before. Or it answered that this process
                has no right to that; the log says it the first time.
        """
        try:
            yield
        except DeniedError as error:
            self._note_denied(error)
            raise AwayError(str(error)) from error
        except (OSError, UnsupportedError) as error:  # the latter: of credentials
            if isinstance(error, TimeoutError):
                self._silent_until = time.monotonic() + PAUSE
            self._note(error)
            raise AwayError(str(error)) from error
        self._note(None)

    def ask_once(self) -> None:
        """Ask the store in the background, so that the log says now if it is away."""
        threading.Thread(target=self._ask, name="availability", daemon=True).start()

    def _ask(self) -> None:
        with (
            contextlib.suppress(AwayError),
            self.asking(),
            contextlib.suppress(NotStoredError, BadArchiveError),  # both are answers
        ):
            self._store.size(_NO_LAYER)

    def _note_denied(self, error: DeniedError) -> None:
        # Not each time that something else was answered in between: it may be so for some layers.
        with self._lock:
            is_news, self._was_denied = not self._was_denied, True
        if is_news:
            _log.warning(
                "layers in the store %s may not be read, and are pulled as usual: %s",
                self._store.address,
                error,
            )

    def _note(self, error: Exception | None) -> None:
        with self._lock:
            is_news = self._is_away != bool(error)
            self._is_away = bool(error)
        if not is_news:
            return
        if error:
            _log.warning(
                "the store %s is away, and layers are pulled as usual until it is back: %s",
                self._store.address,
                error,
            )
        else:
            _log.info("the store %s is back", self._store.address)
