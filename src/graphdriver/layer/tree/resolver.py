"""Where a path inside a layer is resolved; nowhere else.

The rules:

- A layer is a world of its own, as after chroot(2): absolute links and ``..`` in links begin and end
  at its root. What was resolved is kept as an open descriptor; a path is resolved each time anew
  (CVE-2025-47290).
- The kernel goes straight down from the root, and stops at links (openat2(2), ``RESOLVE_BENEATH`` and
  ``RESOLVE_NO_SYMLINKS``).
- Names from a tar are cleaned by their letters alone, as Docker does, so ``a/../b`` is ``b`` even if
  ``a`` is a link. A name that climbs above the root is an error and not brought back to the root.
- What is not done in one such call - a path over 4,095 bytes, folders to be made on the way, links -
  is done piece by piece: each piece beneath the folder reached so far; a link is read and its text put
  before what remains, and ``..`` goes back to the root and down again. So it is known where a path
  leads, which an upper folder's own layers below must be asked for.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable

from graphdriver.errors import BadArchiveError
from graphdriver.linux.openat2 import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

MakeFolder = Callable[[int, list[bytes], bytes], None]
"""Makes a missing folder: gets the open folder it is to be in, that one's path, and its name. Where
something stands that is no folder it replaces that, or raises. It may make a link to a folder."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_STRAIGHT = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_PIECEWISE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EAGAIN})
_PATH_MAX = 4095
_DETOURS = 255
"""How many links one path may lead through, and how often one step of it may be tried."""
_LOOKUPS = 100_000
"""How many names may be looked up for one path: links can say ``a/../a/..`` at great length."""
_LOOKUPS_BACK = 5_000_000
"""How many in all for the ``..`` of links: a layer can name such a link again and again."""
_DEEPEST = 10_000
"""How many folders a name may go down: a mebibyte of ``a/a/a`` in one header is nobody's file."""


def clean(path: bytes) -> list[bytes]:
    """Return the parts of a path from a tar, from the layer's root on; none for the root itself.

    Raises:
        BadArchiveError: it climbs above the root, or goes down without end.
    """
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            if not parts:
                raise BadArchiveError("the name climbs above the layer's root")
            parts.pop()
        elif part not in {b"", b"."}:
            parts.append(part)
    if len(parts) > _DEEPEST:
        raise BadArchiveError(f"the name goes down more than {_DEEPEST} folders")
    return parts


class Resolver:
    """A layer's root, and the way to the folders in it.

    Args:
        fd: the root's open descriptor; it stays the caller's.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._lookups_back = 0

    def open_folder(
        self, parts: list[bytes], make: MakeFolder | None = None
    ) -> tuple[int, list[bytes]]:
        """Open a folder of the layer for reading, links on the way being followed inside it.

        Args:
            parts: its path, as `clean` returns it.
            make: called for each folder that is missing on the way; without it they are an error.

        Returns:
            A descriptor, the caller's, and the path without links that led there.

        Raises:
            OSError: ENOENT or ENOTDIR if there is no such folder, ELOOP after too many links.
        """
        path = b"/".join(parts) or b"."
        if len(path) <= _PATH_MAX:
            try:
                return openat2(self.fd, path, _FOLDER, 0, _STRAIGHT), parts
            except OSError as error:
                if error.errno not in _PIECEWISE:
                    raise
        return self._step_by_step(parts, make)

    def open_below(self, fd: int, parts: list[bytes]) -> int | None:
        """Open a folder below one that is open already, or None if that takes a look from the root.

        Args:
            fd: a folder of this layer.
            parts: the path from there on.
        """
        path = b"/".join(parts)
        if len(path) > _PATH_MAX:
            return None
        try:
            return openat2(fd, path, _FOLDER, 0, _STRAIGHT)
        except OSError:
            return None

    def _step_by_step(self, parts: list[bytes], make: MakeFolder | None) -> tuple[int, list[bytes]]:
        todo = deque(parts)
        done: list[bytes] = []
        links = tries = lookups = 0
        single_steps = 0
        fd = os.open(b".", _FOLDER, dir_fd=self.fd)
        try:
            while todo:
                if lookups > _LOOKUPS or self._lookups_back > _LOOKUPS_BACK:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                if todo[0] == b"..":
                    todo.popleft()
                    if done:
                        done.pop()
                        lookups += len(done)
                        self._lookups_back += len(done)
                        fd = _replaced(fd, self.open_straight(done))
                    continue
                run = [todo[0]] if single_steps else _run(todo)
                lookups += len(run)
                try:
                    fd = _replaced(fd, openat2(fd, b"/".join(run), _FOLDER, 0, _STRAIGHT))
                except OSError as error:
                    if len(run) > 1:
                        single_steps = len(run)
                        continue
                    tries += 1
                    if max(links, tries) > _DETOURS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
                    target = _link_text(fd, run[0])
                    if target is not None:
                        links += 1
                        todo.popleft()
                        todo.extendleft(reversed([p for p in target.split(b"/") if p not in _HERE]))
                        if target.startswith(b"/"):
                            done.clear()
                            fd = _replaced(fd, os.open(b".", _FOLDER, dir_fd=self.fd))
                    elif error.errno == errno.EAGAIN:
                        pass
                    elif make and error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                        make(fd, list(done), run[0])
                    else:
                        raise
                    continue
                tries = 0
                done += run
                for _ in run:
                    todo.popleft()
                single_steps = max(0, single_steps - 1)
        except BaseException:
            os.close(fd)
            raise
        return fd, done

    def open_straight(self, parts: list[bytes]) -> int:
        """Open the folder of these parts, of which none may be a link.

        Raises:
            OSError: there is no such folder (any more).
        """
        fd = os.open(b".", _FOLDER, dir_fd=self.fd)
        todo = deque(parts)
        while todo:
            run = _run(todo)
            try:
                deeper = openat2(fd, b"/".join(run), _FOLDER, 0, _STRAIGHT)
            finally:
                os.close(fd)
            fd = deeper
            for _ in run:
                todo.popleft()
        return fd


_HERE = frozenset({b"", b"."})


def _replaced(old: int, new: int) -> int:
    os.close(old)
    return new


def _run(parts: deque[bytes]) -> list[bytes]:
    """Return as many leading parts as one call takes, at least one."""
    run: list[bytes] = []
    length = 0
    for part in parts:
        length += len(part) + 1
        if part == b".." or (run and length > _PATH_MAX):
            break
        run.append(part)
    return run


def _link_text(fd: int, name: bytes) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=fd)
    except OSError:
        return None
