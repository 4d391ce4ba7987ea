"""Small files of our own: replaced as a whole, and checked when they are read.

A crash, a disk or an administrator may damage such a file in any way.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from typing import Final

LIMIT: Final = 4 << 20
"""The most bytes of most small files, far more than any undamaged one has."""

_AT_ONCE: Final = 1 << 16

_NO_FILE: Final = (errno.EISDIR, errno.ELOOP, errno.ENXIO)

# Non-blocking: opening a FIFO that replaced the file must not wait for a writer.
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_FRESH: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def read_bytes(path: str, limit: int = LIMIT) -> bytes:
    """Return the content of a small file.

    Args:
        path: the file.
        limit: how many bytes it may have.

    Raises:
        FileNotFoundError: it is not there.
        OSError: it cannot be read now, which does not mean that it is damaged.
        ValueError: it is damaged; the text says how, in one line.
    """
    try:
        fd = os.open(path, _READ)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("it is not a regular file")
            if found.st_size > limit:
                raise ValueError(f"it has more than {limit} bytes")
            held = bytearray()
            while len(held) < found.st_size and (piece := os.read(fd, _AT_ONCE)):
                held += piece
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise ValueError(f"it is not a file ({error.strerror})") from error
        raise
    return bytes(held)


def read_text(path: str, limit: int = LIMIT) -> str:
    """Return the text of a small file; arguments and errors are those of `read_bytes`.

    Raises:
        FileNotFoundError: it is not there.
        OSError: it cannot be read now, which does not mean that it is damaged.
        ValueError: it is damaged; the text says how, in one line.
    """
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 at byte {error.start}") from error


def read_object(path: str) -> dict[str, object]:
    """Return the JSON object in a small file.

    Raises:
        FileNotFoundError: it is not there.
        OSError: it cannot be read now, which does not mean that it is damaged.
        ValueError: it is damaged; the text says how, in one line.
    """
    return parse_object(read_text(path))


def parse_object(text: str) -> dict[str, object]:
    """Return the JSON object that a small file's text is.

    Raises:
        ValueError: it is none; the text says why, in one line.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - as other damage is
    return found


def write_whole(path: str, text: str, mode: int, *, sync: bool = True) -> None:
    """Write a small file; at any time it has either the old text or the whole new one.

    Args:
        path: the file. No other name in its directory may begin with a dot and end in ``.new``.
        text: the new text.
        mode: its permissions.
        sync: whether this is true after a power cut too; otherwise the file may be empty then.

    Raises:
        OSError: it cannot be written; the old file is still there.
    """
    above, name = os.path.split(path)
    fresh = os.path.join(above, f".{name}.new")
    try:
        descriptor = os.open(fresh, _FRESH, mode)
    except FileExistsError:  # left by a process that was killed
        os.unlink(fresh)
        descriptor = os.open(fresh, _FRESH, mode)
    try:
        try:
            _write_all(descriptor, text.encode())
            if sync:  # before the rename: a power cut must not leave the name with an empty file
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def write_new(path: str, text: str, mode: int) -> None:
    """Write a small file in a directory that nobody uses yet.

    Args:
        path: the file, which does not exist.
        text: its text.
        mode: its permissions.

    Raises:
        OSError: it cannot be written; it may be incomplete.
    """
    descriptor = os.open(path, _FRESH, mode)
    try:
        _write_all(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes: write(2) may take only a part of them, for example on a full disk."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
