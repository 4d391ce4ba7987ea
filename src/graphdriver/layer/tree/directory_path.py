"""The path of a directory in a tree, as its name and the path of the directory above it.

A path takes as many bytes as all the names in it together, so whole paths of all directories of a deep
tree would take the square of what is on disk. Here a directory takes its own name only; bytes are made
where they are given out.
"""

from __future__ import annotations

from collections.abc import Iterator

_SHOWN = 1000
"""How many bytes of a path are shown in an error or a warning."""


class DirectoryPath:
    """A directory of a tree; one walk through a tree makes one object of each, equal to no other.

    Args:
        above: the directory that it is in; None: it is the root.
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
        """Return its path with a slash at its end, to put a name after it; no bytes for the root."""
        names = [b"", *(one.name for one in self._up())]
        return b"/".join(reversed(names))

    def prefix_beside(self, other: DirectoryPath, known: bytes) -> bytes:
        """Return `prefix`, given that of the directory where a walk was before.

        The two are mostly near each other, so that little of it need be made anew.
        """
        if self.above is other:
            return b"%b%b/" % (known, self.name)
        above: DirectoryPath | None = other
        while above and above.depth > self.depth:
            above = above.above
        return known[: self.length] if above is self else self.prefix()

    def show(self, name: bytes) -> bytes:
        """Return the path of a name in it for an error's text; of a long one only its end."""
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
