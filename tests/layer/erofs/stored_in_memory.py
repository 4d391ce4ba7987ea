"""Store a layer of many entries, as a process of its own.

Arguments: the kind of entries, how many, and a directory for the file. It prints by how many bytes the
process grew at its peak, and whether the layer is held.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from graphdriver.conformance.plugin import tars
from graphdriver.layer.erofs.store import NotHeldError, store_layer
from graphdriver.layer.tar.entry import Entry, EntryType
from graphdriver.layer.tar.writer import headers
from tests.support.pieces import Pieces

SECOND = 1_000_000_000


def packages(number: int) -> bytes:
    """A directory of each dozen files, with names and times as a distribution's packages have."""
    directory = b"usr/lib/python3/dist-packages/package%06d/" % (number // 12)
    name = directory if number % 12 == 0 else directory + b"module_%04d.py" % number
    kind = EntryType.FILE if number % 12 else EntryType.DIRECTORY
    return headers(Entry(name, kind, 0o644, mtime_ns=(1_600_000_000 + number) * SECOND))


def flat(number: int) -> bytes:
    """All in one directory."""
    entry = Entry(b"%08d.txt" % number, EntryType.FILE, mtime_ns=number * SECOND + number)
    return headers(entry)


def described(number: int) -> bytes:
    attributes = {b"user.%d" % number: b"%d" % number, b"trusted.a": b"x" * 50}
    return headers(Entry(b"%08d" % number, EntryType.FILE, xattrs=attributes))


def linked(number: int) -> bytes:
    if number % 2 == 0:
        return headers(Entry(b"%08d" % number, EntryType.FILE))
    return headers(Entry(b"%08d" % number, EntryType.HARD_LINK, link=b"%08d" % (number - 1)))


def waiting(number: int) -> bytes:
    return headers(Entry(b"%08d" % number, EntryType.HARD_LINK, link=b"%08d.late" % number))


def pointing(number: int) -> bytes:
    return headers(Entry(b"%08d" % number, EntryType.SYMLINK, link=b"target/%08d" % number))


def nested(number: int) -> bytes:
    return headers(Entry(b"%04d/%04d/" % divmod(number, 100), EntryType.DIRECTORY))


KINDS: dict[str, Callable[[int], bytes]] = {
    one.__name__: one for one in (packages, flat, described, linked, waiting, pointing, nested)
}


def entries(kind: str, count: int) -> Iterator[bytes]:
    """Yield a tar, some entries at a time."""
    make = KINDS[kind]
    for first in range(0, count, 100):
        yield b"".join(make(number) for number in range(first, min(count, first + 100)))
    yield tars.END


def memory(what: str) -> int:
    """Return a line of this process's status, in bytes."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if what in line)


def main(kind: str, count: str, directory: str) -> None:
    fd = os.open(directory, os.O_RDWR | os.O_TMPFILE)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = memory("VmRSS")
    became = "held"
    try:
        tar = Pieces(entries(kind, int(count)))
        store_layer(tar, fd, below=lambda: contextlib.nullcontext([]))
    except NotHeldError as error:
        became = str(error)
    print(memory("VmHWM") - before, became)


if __name__ == "__main__":
    main(*sys.argv[1:])
