"""The lines of the log of calls, successes too."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

Lines = list[logging.LogRecord]


@contextlib.contextmanager
def collected_lines() -> Iterator[Lines]:
    """Collect the lines that are logged in a ``with`` block."""
    found: Lines = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    logger = logging.getLogger("graphdriver.calls")
    handler, before = Collect(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.setLevel(before)
    logger.removeHandler(handler)


def members(line: logging.LogRecord) -> dict[str, object]:
    """Return the members of a line, such as ``call`` and ``ms``."""
    found = line.graphdriver  # type: ignore[attr-defined]
    assert isinstance(found, dict)
    return found
