"""Going to named places of a tree, in tree order, by descriptor and never through a link."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from graphdriver.errors import GraphDriverError
from graphdriver.layer.walk import Trail

_NO_NAMES = frozenset({b"", b".", b".."})


class Place(NamedTuple):
    """A name in a folder, whether or not something is there.

    ``path`` is relative to the root; ``parent_fd`` is open as long as the place is current.
    """

    path: bytes
    name: bytes
    parent_fd: int


def visit(root_fd: int, paths: Iterable[bytes]) -> Iterator[Place]:
    """Yield the place of each path: a folder before what it holds, siblings in byte order.

    A path whose folder is not there (any more) is passed over.

    Args:
        root_fd: the root folder; it stays the caller's and must live as long as the visit.
        paths: relative to the root.

    Raises:
        GraphDriverError: a path is the root's or climbs (drivers may list changes themselves).
    """
    with Trail(root_fd) as trail:
        at: list[bytes] = []
        # A name holds no NUL, so this is the order of the parts, in a fraction of their memory.
        for path in sorted(paths, key=lambda path: path.replace(b"/", b"\0")):
            parts = path.split(b"/")
            if not _NO_NAMES.isdisjoint(parts):
                raise GraphDriverError(f"{path!r} is no path below a layer's root")
            folders, name = parts[:-1], parts[-1]
            while at != folders[: len(at)]:
                trail.leave()
                at.pop()
            for folder in folders[len(at) :]:
                if not trail.enters(folder):
                    break
                at.append(folder)
            else:
                yield Place(path, name, trail.fd)
