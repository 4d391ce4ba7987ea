"""Making folders and files of our own with the permissions that they shall have, by one at a time.

A server of layers runs with a umask of 0, so that layers get the modes that they say. What is ours
must therefore say its mode each time; `os.makedirs` does so for the last folder only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator


def make_folders(path: str, mode: int) -> None:
    """Make a folder and those above it that are missing, all with the same permissions.

    Raises:
        OSError: one cannot be made; FileExistsError if something else is in its place.
    """
    above = os.path.dirname(path)
    if above and not os.path.isdir(above):
        make_folders(above, mode)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
    if not os.path.isdir(path):
        raise FileExistsError(17, "something that is no folder is in the way", path)


def write_whole(path: str, text: str, mode: int) -> None:
    """Write a small file so that a crash leaves the old one or the new one.

    Raises:
        OSError: it cannot be written.
    """
    fresh = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(fresh, path)


@contextlib.contextmanager
def alone_in(folder: str) -> Iterator[None]:
    """Keep others of ours out of a folder, from looking at a name to having replaced it.

    Raises:
        OSError: the folder is not there.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
