"""The record of a probe, ``HOME/.probed``: the result of the last probe of a home.

A probe makes something in the home and looks at it. On a full or read-only filesystem it fails. The
layers must still be served there: one of them has to be removed to make room. So a home that was served
before is then served with the recorded result, and only calls that need room fail.

The record is written after each probe that found something new. A damaged or missing record counts
as empty, and the next probe that can write makes it again.
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

RECORD: Final = ".probed"

_CANNOT_WRITE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_ENOUGH: Final = 4 << 20  # bytes; far more than a probe needs, however the filesystem counts

_log = logging.getLogger(__name__)


def probe_or_recall(home: str, probe: Callable[[], Mapping[str, object]]) -> Mapping[str, object]:
    """Return the result of a probe of a home, or the recorded one if nothing can be written there.

    Args:
        home: it exists.
        probe: runs the probe, and returns its result, which must fit in JSON.

    Returns:
        The result; empty for a home that has no record and cannot be probed now.

    Raises:
        GraphDriverError: the home cannot be served.
        OSError: it cannot be probed, and was never served.
    """
    path = os.path.join(home, RECORD)
    before = _read(path)
    try:
        found = dict(probe())
    except (GraphDriverError, OSError) as error:
        # A home that was served has a trash; any other one has nothing to lose.
        if not os.path.isdir(os.path.join(home, TRASH)) or _can_write(home, error):
            raise
        _log.warning("%s cannot be probed, and is served as before: %s", home, error)
        return before
    if found != before:
        with contextlib.suppress(OSError):  # a full disk may have had room for the probe only
            write_whole(path, json.dumps(found), 0o600)
    return found


def _read(path: str) -> dict[str, object]:
    try:
        return read_object(path)
    except OSError:
        return {}
    except ValueError as error:
        _log.warning("%s is damaged (%s); it will be written again", path, error)
        return {}


def _can_write(home: str, error: BaseException | None) -> bool:
    """Tell whether a probe failed for another reason than that nothing can be written."""
    while error:
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
            return False
        error = error.__cause__
    # A program reports its reason only as text, and overlayfs may report another error, so try to
    # write.
    try:
        fd = os.open(os.path.join(home, TRASH), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, _ENOUGH)
        finally:
            os.close(fd)
    except OSError as error_now:
        return error_now.errno not in _CANNOT_WRITE
    return True
