"""The path of a directory in a tree, as its name and the path of the directory above it.

A path is as long as all the names in it together, so the whole paths of all directories of a deep tree
would take memory that grows with the square of its depth. Here a directory takes its own name only;
whole paths are built one at a time, when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator

_SHOWN = 1000
"""How many bytes of a path are shown in an error or a warning."""


class DirectoryPath:
    """A directory of a tree; a walk makes one object for each directory, compared by identity.

    Args:
        above: its parent directory; None for the root.
        name: its name there.

    Attributes:
        depth: how many directories it is below the root.
        length: how many bytes `prefix` has.
    """

    __slots__ = ("above", "depth", "length", "name")

    def __init__(self, above: DirectoryPath | None = None, name: bytes = b"") -> None:
        self.above = above
        self.name = name
        self.depth: int = above.depth + 1 if above else 0
        self.length: int = above.length + len(name) + 1 if above else 0

    def prefix(self) -> bytes:
        """Return its path with a slash at its end, to append a name to; no bytes for the root."""
        names = [b"", *(one.name for one in self._up())]
        return b"/".join(reversed(names))

    def prefix_beside(self, other: DirectoryPath, known: bytes) -> bytes:
        """Return `prefix`, given that of the previous directory of a walk.

        The two are usually near each other, so most of the known prefix can be reused.
        """
        if self.above is other:
            return b"%b%b/" % (known, self.name)
        above: DirectoryPath | None = other
        while above and above.depth > self.depth:
            above = above.above
        return known[: self.length] if above is self else self.prefix()

    def show(self, name: bytes) -> bytes:
        """Return the path of a name in it for an error's text; only the end of a long one."""
        shown = name
        for one in self._up():
            if len(shown) > _SHOWN:
                return b".../" + shown
            shown = b"%b/%b" % (one.name, shown)
        return shown

    def _up(self) -> Iterator[DirectoryPath]:
        """Yield this directory and those above it, without the root."""
        at = self
        while at.above is not None:
            yield at
            at = at.above
