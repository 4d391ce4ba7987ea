"""``HOME/.graphdriver/server.json``: the process that serves a home, so that others can ask it.

It is written when the home is served and removed when it is released; a killed process leaves it. It is
for programs that look at a home: the lock decides who may serve it (`graphdriver.serving.home`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
from typing import Final

from graphdriver.files.small_files import read_object, write_whole
from graphdriver.linux.processes import has_open
from graphdriver.serving.home import LOCK
from graphdriver.serving.home_contents import OWN

SERVER: Final = f"{OWN}/server.json"

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class ServerRecord:
    """A process that serves a home.

    Attributes:
        pid: its ID, in its own PID namespace.
        addresses: where it listens: ``unix:///…``, ``tcp://…`` or ``https://…``.
        engine: ``docker`` or ``containerd``.
        driver: the driver's name.
        version: the version of this package.
        started: when it started, as RFC 3339 in UTC.
    """

    pid: int
    addresses: tuple[str, ...]
    engine: str
    driver: str
    version: str
    started: str


def write_server(home: str, record: ServerRecord) -> None:
    """Write the record of this process; do nothing if that is impossible."""
    try:
        text = json.dumps(dataclasses.asdict(record))
        write_whole(os.path.join(home, SERVER), text, 0o600, sync=False)
    except OSError as error:
        _log.debug("%s cannot be written: %s", os.path.join(home, SERVER), error)


def remove_server(home: str) -> None:
    """Remove the record of this process; do nothing if that is impossible."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(home, SERVER))


def read_server(home: str) -> ServerRecord | None:
    """Return the process that serves a home.

    Returns:
        None if none does, as far as this process can see: a process in another PID namespace is not
        found.

    Raises:
        OSError: the record cannot be read.
    """
    try:
        record = _checked(read_object(os.path.join(home, SERVER)))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return record if has_open(record.pid, os.path.join(home, LOCK)) else None


def _checked(found: dict[str, object]) -> ServerRecord:
    """Make a record of a file's members.

    Raises:
        ValueError: they are damaged.
    """
    pid, addresses = found.get("pid"), found.get("addresses")
    texts = [found.get(name) for name in ("engine", "driver", "version", "started")]
    if type(pid) is not int or pid <= 0 or not isinstance(addresses, list):
        raise ValueError("pid or addresses is wrong")
    if not all(isinstance(text, str) and text.isprintable() for text in (*texts, *addresses)):
        raise ValueError("a text is wrong")
    return ServerRecord(pid, tuple(addresses), *map(str, texts))
