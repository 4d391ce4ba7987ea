"""An upper directory that is filled before the layers below it are known.

Everything is made as if there were a directory below each directory of the layer. What depends on the
layers below is noted (`Unsettled`), and `graphdriver.layer.overlay.settle` settles it:

- a directory that the tar does not name: below there may be one with other metadata, or a link;
- whiteouts, which are right only in a directory that there is below as well;
- hard links to files that the tar does not have;
- the root's metadata, if the tar does not describe it.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field, fields
from typing import Final

from graphdriver.errors import BadArchiveError
from graphdriver.layer.overlay.form import MOST_NAMES_SIZE, UpperDirectory
from graphdriver.layer.overlay.whiteout import TRUSTED, Marks, is_opaque_at
from graphdriver.layer.tree.directory import LayerDir

LIMIT: Final = 8 * MOST_NAMES_SIZE
"""The limit of the text of the notes, in bytes: JSON takes up to six for one."""

_NAME_SIZE: Final = 128  # the memory of one path besides its own bytes


@dataclass(slots=True)
class Unsettled:
    """What of a layer depends on the layers below.

    Paths lead from the layer's root, without links of the layer itself.

    Attributes:
        directories: those that the tar does not name.
        deletions: the directories with whiteouts; ``b""`` for the root.
        opaque: directories that are opaque only because the layer deletes their names, too.
        links: hard links without a target, and their targets.
        describes_root: whether the tar has an entry for the root.
    """

    directories: set[bytes] = field(default_factory=set)
    deletions: set[bytes] = field(default_factory=set)
    opaque: set[bytes] = field(default_factory=set)
    links: dict[bytes, bytes] = field(default_factory=dict)
    describes_root: bool = False

    def text(self) -> str:
        """Return the notes as JSON."""
        return json.dumps(
            {
                "directories": _listed(self.directories),
                "deletions": _listed(self.deletions),
                "opaque": _listed(self.opaque),
                "links": {os.fsdecode(path): os.fsdecode(to) for path, to in self.links.items()},
                "describes_root": self.describes_root,
            }
        )


def parse(text: str) -> Unsettled:
    """Return the notes in a text.

    Raises:
        ValueError: it is damaged.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(found, dict) or found.keys() != {one.name for one in fields(Unsettled)}:
        raise ValueError("it has other members than the notes of a layer")
    links, describes_root = found["links"], found["describes_root"]
    if not isinstance(links, dict) or not isinstance(describes_root, bool):
        raise ValueError("a member is of another type")  # noqa: TRY004 - as other damage is
    return Unsettled(
        set(_paths(found["directories"])),
        set(_paths(found["deletions"])),
        set(_paths(found["opaque"])),
        dict(zip(_paths(list(links)), _paths(list(links.values())), strict=True)),
        describes_root,
    )


def _listed(paths: set[bytes]) -> list[str]:
    return sorted(map(os.fsdecode, paths))


def _paths(found: object) -> list[bytes]:
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError("a path is no text")
    return [os.fsencode(one) for one in found]


class ParentlessDirectory(UpperDirectory):
    """The form of an upper directory below which any layers may come.

    Args:
        root_fd: the upper directory; borrowed.
        marks: where the mount will look for opaque marks.

    Attributes:
        unsettled: what depends on them.
    """

    def __init__(self, root_fd: int, marks: Marks = TRUSTED) -> None:
        super().__init__(root_fd, (), marks)
        self.unsettled = Unsettled()
        self._size = 0

    def is_all_own(self, inode: int) -> bool:
        """Return False: an entry may describe a directory that was noted before."""
        return False

    def is_merged(self, directory: LayerDir) -> bool:
        """Return True: there may be a directory below, too."""
        return True

    def note_made(self, directory: LayerDir, name: bytes, *, is_link: bool) -> None:
        """Note that the tar does name a directory."""
        if self.unsettled.directories:
            self.unsettled.directories.discard(b"/".join([*directory.path, name]))

    def copy_up(self, directory: LayerDir, name: bytes, *, on_way: bool) -> bool:
        """Note that a directory depends on the layers below, and copy nothing."""
        if on_way:
            self._note(self.unsettled.directories, b"/".join([*directory.path, name]))
        return False

    def apply_whiteout(self, directory: LayerDir, name: bytes) -> None:
        """Make a whiteout, or make the layer's own directory opaque, and note it."""
        path = b"/".join([*directory.path, name])
        own = directory.find(name)
        if own and stat.S_ISDIR(own.st_mode) and not is_opaque_at(directory.fd, name, self._marks):
            self._note(self.unsettled.opaque, path)
        super().apply_whiteout(directory, name)
        self._note(self.unsettled.deletions, b"/".join(directory.path))

    def apply_opaque(self, directory: LayerDir) -> None:
        """Make the directory opaque, whatever is below."""
        super().apply_opaque(directory)
        self.unsettled.opaque.discard(b"/".join(directory.path))

    def leave_open(self, path: bytes, target: bytes) -> bool:
        """Take note of a hard link without a target."""
        self.unsettled.links[path] = target
        return True

    def _note(self, paths: set[bytes], path: bytes) -> None:
        if path in paths:
            return
        paths.add(path)
        self._size += len(path) + _NAME_SIZE
        if self._size > MOST_NAMES_SIZE:
            raise BadArchiveError("it has too many directories that it does not name")
