"""What a probe of a home finds, kept for a start at which nothing can be written there.

A probe makes something and looks at it. On a filesystem that is full or read-only it cannot, and that
must keep nobody from the layers that are there: one has to be removed to make room. So a home that was
served before is taken up as the last probe found it, and only the calls that need room fail.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Final

from graphdriver.errors import GraphDriverError
from graphdriver.files.small_files import read_object, write_whole
from graphdriver.store import TRASH

FILE: Final = ".probed"

_CANNOT_WRITE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_ENOUGH: Final = 4 << 20  # bytes; far more than a probe needs, however a filesystem counts

_log = logging.getLogger(__name__)


def probed(home: str, probe: Callable[[], Mapping[str, object]]) -> Mapping[str, object]:
    """Return what a probe finds in a home, or found before if nothing can be written there now.

    Args:
        home: it exists.
        probe: finds what JSON can hold.

    Returns:
        What it found; nothing of a home of an earlier version that cannot be probed now.

    Raises:
        GraphDriverError: the home cannot serve.
        OSError: it cannot be probed, and was never served.
    """
    path = os.path.join(home, FILE)
    before = _read(path)
    try:
        found = dict(probe())
    except (GraphDriverError, OSError) as error:
        if not os.path.isdir(os.path.join(home, TRASH)) or _can_write(home, error):
            raise
        _log.warning("%s cannot be probed, and is served as it was before: %s", home, error)
        return before
    if found != before:
        with contextlib.suppress(OSError):
            write_whole(path, json.dumps(found), 0o600)
    return found


def _read(path: str) -> dict[str, object]:
    try:
        return read_object(path)
    except OSError:
        return {}
    except ValueError as error:
        _log.warning("%s is damaged (%s), and is made anew", path, error)
        return {}


def _can_write(home: str, error: BaseException | None) -> bool:
    """Tell whether a probe failed for another reason than that nothing can be written."""
    while error:
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
            return False
        error = error.__cause__
    # A program tells its reasons in words, or gives other ones.
    try:
        fd = os.open(os.path.join(home, TRASH), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, _ENOUGH)
        finally:
            os.close(fd)
    except OSError as error_now:
        return error_now.errno not in _CANNOT_WRITE
    return True
