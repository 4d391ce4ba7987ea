"""``HOME/.graphdriver/layers``: a journal of the layers in a home, in lines of JSON.

Each line has members of one layer's record (`Entry`), or says that the layer was removed. A call adds
a line with one write; the file is written anew when the home is claimed and when it has grown. The
journal is for people who look: no call fails because of it, and the driver decides which layers there
are. So it is not synced, a line that is torn or damaged is ignored, and on a full disk lines are
missing until there is room.

What is read from the file is not trusted: a crash, a disk or an administrator may have damaged it.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from json.encoder import encode_basestring_ascii as _quoted
from typing import Final, NamedTuple

from graphdriver.driver import LAYER_ID
from graphdriver.files.small_files import read_bytes, write_whole
from graphdriver.linux.resources import error_text
from graphdriver.serving.home_contents import OWN

JOURNAL: Final = f"{OWN}/layers"

LIMIT: Final = 64 << 20
"""The most bytes that are read of a journal; it is written anew long before it has as many."""

GROWTH: Final = 1 << 20
"""How many bytes are added before a journal is written anew, at least."""

RETRY: Final = 60.0
"""How long to wait after a failed write before all is written again, in seconds."""

_LONGEST_LINE: Final = 1000
_YEAR_10000: Final = 253402300800
"""In seconds since 1970; RFC 3339 can name no later year than 9999."""
_APPEND: Final = (
    os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
)

_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """The members of a layer's record that a line sets; None: the line does not have it.

    Attributes:
        layer: the layer's ID.
        parent: its parent; ``""``: it has none.
        created: when it was created, in seconds since 1970.
        applied: when it was filled or committed, likewise.
        size: bytes of its files.
        inodes: the number of its inodes.
        removed: whether it was removed.
    """

    layer: str
    parent: str | None = None
    created: float | None = None
    applied: float | None = None
    size: int | None = None
    inodes: int | None = None
    removed: bool | None = None


_NAMES: Final = Entry._fields


class LayerJournal:
    """The journal of a home; many threads may add to it.

    Args:
        home: the home; this process has locked it.
        entries: returns the entries of all layers, for a journal that is written anew.
    """

    def __init__(self, home: str, entries: Callable[[], Iterable[Entry]]) -> None:
        self._home = home
        self.path = os.path.join(home, JOURNAL)
        self._entries = entries
        self._guard = threading.Lock()
        self._room = 0
        """How many bytes can be added before the file is written anew."""
        self._retry_at: float | None = None
        """When to write all again, after a write that failed; by `time.monotonic`."""

    def read(self) -> Iterator[Entry] | None:
        """Return the lines of the file; None if it does not exist or cannot be read."""
        try:
            return read_journal(self._home)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _log.warning("%s is damaged, and written anew: %s", self.path, error)
            return None

    def rewrite(self) -> None:
        """Write the file anew, with what is known now."""
        with self._guard:
            self._rewrite()

    def add(self, entry: Entry) -> None:
        """Add a line; if that is impossible, log it once."""
        line = _line(entry)
        with self._guard:
            if self._retry_at is not None:
                if time.monotonic() >= self._retry_at:
                    self._rewrite()
            elif self._room < len(line):
                self._rewrite()
            else:
                self._append(line)

    def _append(self, line: bytes) -> None:
        try:
            # Opened each time: an open file would keep the filesystem from being remounted read-only.
            fd = os.open(self.path, _APPEND, 0o600)
            try:
                written = os.write(fd, line)
            finally:
                os.close(fd)
        except OSError as error:
            self._failed(error)
            return
        self._room -= len(line)
        if written < len(line):
            self._failed(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def _rewrite(self) -> None:
        text = b"".join(map(_line, self._entries()))
        try:
            write_whole(self.path, text.decode(), 0o600, sync=False)
        except OSError as error:
            self._failed(error)
            return
        self._retry_at = None
        self._room = max(GROWTH, len(text))

    def _failed(self, error: OSError) -> None:
        if self._retry_at is None and error.errno != errno.EROFS:  # there no layer can be made
            _log.warning(
                "%s cannot be written, and is written later: %s", self.path, error_text(error)
            )
        self._retry_at = time.monotonic() + RETRY


def read_journal(home: str) -> Iterator[Entry]:
    """Return the whole lines of a home's journal, which another process may write to.

    Raises:
        FileNotFoundError: the home has no journal.
        OSError: it cannot be read.
        ValueError: it is damaged as a whole.
    """
    return _parsed(read_bytes(os.path.join(home, JOURNAL), LIMIT))


def _line(entry: Entry) -> bytes:
    # By hand: each Create and each Remove writes a line, and `json` takes twice as long.
    members = [
        f'"{name}":{_written(value)}'
        for name, value in zip(_NAMES, entry, strict=True)
        if value is not None
    ]
    return f"{{{','.join(members)}}}\n".encode()


def _written(value: str | float) -> str:
    if isinstance(value, str):
        return _quoted(value)
    return "true" if value is True else repr(value)


def _parsed(text: bytes) -> Iterator[Entry]:
    """Yield the entries of all lines that are whole and undamaged."""
    for line in io.BytesIO(text):
        if len(line) > _LONGEST_LINE or not line.endswith(b"\n"):
            continue
        try:
            entry = _checked(json.loads(line))
        except (ValueError, RecursionError):
            continue
        yield entry


def _checked(found: object) -> Entry:
    """Make an entry of a line's members.

    Raises:
        ValueError: one of them is wrong.
    """
    if not isinstance(found, dict) or not found.keys() <= {*_NAMES}:
        raise ValueError("no entry")
    entry = Entry(**{"layer": "", **found})
    is_right = (
        _is_id(entry.layer)
        and (entry.parent in (None, "") or _is_id(entry.parent))
        and _is_time(entry.created)
        and _is_time(entry.applied)
        and _is_count(entry.size)
        and _is_count(entry.inodes)
        and entry.removed in (None, True)
    )
    if not is_right:
        raise ValueError("a member is wrong")
    return entry


def _is_id(value: object) -> bool:
    return isinstance(value, str) and LAYER_ID.fullmatch(value) is not None


def _is_time(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value is None
    return 0 <= value < _YEAR_10000


def _is_count(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < 1 << 63)
