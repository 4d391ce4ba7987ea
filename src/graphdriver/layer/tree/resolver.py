"""The resolver: the only code that resolves a path inside a layer.

- The layer's root is the root directory, as after chroot(2): absolute links start there, and ``..`` in
  links does not lead above it. The result is an open descriptor. A path is resolved again each time it
  is used (CVE-2025-47290).
- The kernel resolves the path from the root and fails at links (openat2(2), ``RESOLVE_BENEATH`` and
  ``RESOLVE_NO_SYMLINKS``).
- Names from a tar are cleaned as text, as Docker does, so ``a/../b`` is ``b`` even if ``a`` is a link.
  A name that climbs above the root is an error; it is not clamped to the root.
- Paths over 4,095 bytes, missing directories and links are resolved piece by piece, each piece beneath
  the directory reached so far. This also gives the path without links, by which an upper directory
  finds the same directory in the layers below.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable

from graphdriver.errors import BadArchiveError
from graphdriver.layer.tree.directory import LayerDir
from graphdriver.linux.openat2 import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

MakeDirectory = Callable[[LayerDir, bytes], None]
"""Makes a missing directory, given its parent directory (borrowed) and its name. It replaces anything
else of that name, or raises. It may make a link to a directory."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
# BENEATH and not IN_ROOT: IN_ROOT would clamp ``..`` to the directory that the call starts from, which
# need not be the layer's root. With BENEATH the call fails, and the path is resolved piece by piece.
_STRAIGHT_DOWN = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_GO_PIECEWISE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EAGAIN})
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_PATH_MAX = 4095
MOST_LINKS = 255
"""How many links one path may lead through, and how often one step of it may be tried."""
_LOOKUPS = 100_000
"""How many names may be looked up for one path: links can contain long runs of ``a/../a/..``."""
_LOOKUPS_BACK = 5_000_000
"""How many in all for the ``..`` of links: a layer can use such a link many times."""
_DEEPEST = 10_000
"""How many directories deep a name may be: no real file has a mebibyte of ``a/a/a`` in its header."""


def clean(path: bytes) -> list[bytes]:
    """Return the parts of a path from a tar, from the layer's root on; none for the root itself.

    Raises:
        BadArchiveError: it climbs above the root, or is too deep.
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
        raise BadArchiveError(f"the name goes down more than {_DEEPEST} directories")
    return parts


class Resolver:
    """The resolver of one layer, which opens its directories.

    Args:
        root_fd: the layer's root; borrowed.
    """

    def __init__(self, root_fd: int) -> None:
        self.root_fd = root_fd
        self.lookups_back = 0

    def open(self, parts: list[bytes], make: MakeDirectory | None = None) -> LayerDir:
        """Open a directory of the layer, and follow links on the way inside the layer.

        Args:
            parts: its path, as `clean` returns it.
            make: called for each missing directory on the way; without it they are an error.

        Raises:
            OSError: ENOENT or ENOTDIR if there is no such directory, ELOOP after too many links.
        """
        path = b"/".join(parts) or b"."
        if len(path) <= _PATH_MAX:
            try:
                return LayerDir(openat2(self.root_fd, path, _DIRECTORY, 0, _STRAIGHT_DOWN), parts)
            except OSError as error:
                if error.errno not in _GO_PIECEWISE:
                    raise
        return _Resolution(self, parts, make).run()

    def open_below(self, above: LayerDir, parts: list[bytes]) -> LayerDir | None:
        """Open a directory below an open one; return None if it must be resolved from the root.

        A link on the way cannot be followed from here: for openat2(2) the directory it starts from is
        the root, which is not the layer's root.

        Args:
            above: a directory of this layer.
            parts: the path from there.
        """
        path = b"/".join(parts)
        if len(path) > _PATH_MAX:
            return None
        try:
            fd = openat2(above.fd, path, _DIRECTORY, 0, _STRAIGHT_DOWN)
        except OSError:
            return None
        return LayerDir(fd, above.path + parts)

    def open_root(self) -> LayerDir:
        """Open the layer's root."""
        return LayerDir(os.open(b".", _DIRECTORY, dir_fd=self.root_fd), [])

    def open_straight(self, path: list[bytes]) -> LayerDir:
        """Open a directory by a path without links; fail at a link.

        Raises:
            OSError: there is no such directory (any more).
        """
        at = self.open_root()
        todo = deque(path)
        while todo:
            run = _longest_run(todo)
            with at:
                at = LayerDir(openat2(at.fd, b"/".join(run), _DIRECTORY, 0, _STRAIGHT_DOWN), [])
            for _ in run:
                todo.popleft()
        at.path = path
        return at


class _Resolution:
    """One path, resolved piece by piece.

    ``_at`` is the directory reached so far. Its list of names is one object that is changed at each
    step: a copy at each step would take time that grows with the square of the depth.
    """

    def __init__(self, resolver: Resolver, parts: list[bytes], make: MakeDirectory | None) -> None:
        self._resolver = resolver
        self._make = make
        self._todo = deque(parts)
        self._links = 0
        self._tries = 0
        self._lookups = 0
        self._single_steps = 0
        self._at = resolver.open_root()

    def run(self) -> LayerDir:
        """Return the directory at the end of the path."""
        try:
            while self._todo:
                if self._lookups > _LOOKUPS or self._resolver.lookups_back > _LOOKUPS_BACK:
                    raise _too_many_links()
                if self._todo[0] == b"..":
                    self._go_up()
                else:
                    self._go_down()
        except BaseException:
            self._at.close()
            raise
        return self._at

    def _go_up(self) -> None:
        """Go to the directory above, by resolving its path from the root again.

        Opening ``..`` is not safe: if the directory was moved meanwhile, it can lead out of the layer.
        """
        self._todo.popleft()
        path = self._at.path
        if path:  # ``..`` of the root is the root, as after chroot(2)
            path.pop()
            self._lookups += len(path)
            self._resolver.lookups_back += len(path)
            self._move_to(self._resolver.open_straight(path))

    def _go_down(self) -> None:
        run = [self._todo[0]] if self._single_steps else _longest_run(self._todo)
        self._lookups += len(run)
        try:
            fd = openat2(self._at.fd, b"/".join(run), _DIRECTORY, 0, _STRAIGHT_DOWN)
        except OSError as error:
            if len(run) > 1:  # one of these names is a link or is missing: try them one by one
                self._single_steps = len(run)
            else:
                self._pass(run[0], error)
            return
        self._move_to(LayerDir(fd, self._at.path))
        self._at.path += run
        for _ in run:
            self._todo.popleft()
        self._tries = 0
        self._single_steps = max(0, self._single_steps - 1)

    def _pass(self, name: bytes, error: OSError) -> None:
        """Follow a link, make a missing directory, or raise the error of opening the name."""
        self._tries += 1
        if max(self._links, self._tries) > MOST_LINKS:
            raise _too_many_links() from None
        target = _link_target(self._at.fd, name)
        if target is not None:
            self._links += 1
            self._todo.popleft()
            # The link's target is resolved by the same rules as the rest, so it stays in the layer.
            self._todo.extendleft(reversed([p for p in target.split(b"/") if p not in NO_STEP]))
            if target.startswith(b"/"):
                self._move_to(self._resolver.open_root())
        elif error.errno == errno.EAGAIN:
            pass  # openat2(2): a rename raced with the lookup; try again
        elif self._make and error.errno in _MISSING:
            self._make(self._at, name)
        else:
            raise error

    def _move_to(self, reached: LayerDir) -> None:
        self._at.close()
        self._at = reached


NO_STEP = frozenset({b"", b"."})


def _too_many_links() -> OSError:
    return OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _longest_run(parts: deque[bytes]) -> list[bytes]:
    """Return as many leading parts as one call takes, at least one."""
    run: list[bytes] = []
    length = 0
    for part in parts:
        length += len(part) + 1
        if part == b".." or (run and length > _PATH_MAX):
            break
        run.append(part)
    return run


def _link_target(fd: int, name: bytes) -> bytes | None:
    """Return the text of a link; None if the name is no link, or nothing has it."""
    try:
        return os.readlink(name, dir_fd=fd)
    except OSError as error:
        # A link that cannot be read is not missing: a directory would be made in its place.
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
        return None
