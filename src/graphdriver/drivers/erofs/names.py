"""The names in a layer without a mount: those of its stored tar, and those in its upper directory.

Names are taken as the tar has them: links on the way to an entry are not followed. So this is good
enough to tell people what a layer changed, and not to make a layer of it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from graphdriver.driver import ChangeKind
from graphdriver.drivers.erofs.layout import ImageLayout
from graphdriver.errors import GraphDriverError
from graphdriver.files.small_files import read_text
from graphdriver.homes import SizedChange
from graphdriver.layer import whiteout
from graphdriver.layer.erofs.record import LIMIT, parse
from graphdriver.layer.erofs.store import stored_tar
from graphdriver.layer.overlay.whiteout import TRUSTED, is_opaque, is_opaque_at, is_whiteout
from graphdriver.layer.tar.entry import EntryType
from graphdriver.layer.tar.reader import TarReader
from graphdriver.layer.tree.directory import Dir
from graphdriver.layer.tree.resolver import clean
from graphdriver.layer.tree.walk import walk

_DIRECTORY: Final = -1
_DELETED: Final = -2
_ROOT: Final = b""

_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


MOST: Final = 512 << 20
"""The most memory for the names of a layer and those below it, in bytes. A tar may have directories in
each other of which each name is 4 KiB long, and names many of them with a few bytes."""
_EACH: Final = 128
"""Bytes of memory that a name takes besides itself."""


@dataclass(slots=True)
class Names:
    """The names in one part of a layer.

    Attributes:
        found: the size in bytes of what has each path, ``_DIRECTORY``, or ``_DELETED`` for a whiteout;
            paths have no leading slash.
        opaque: the directories that hide what the layers below have in them.
        size: about how many bytes of memory they take.
    """

    found: dict[bytes, int] = field(default_factory=dict)
    opaque: set[bytes] = field(default_factory=set)
    size: int = 0

    def put(self, path: bytes, what: int) -> None:
        """Add a path, or change what it is.

        Raises:
            GraphDriverError: there are too many.
        """
        if path not in self.found:
            self.size += len(path) + _EACH
            if self.size > MOST:
                raise _too_many()
        self.found[path] = what

    def add(self, path: bytes, what: int) -> None:
        """Add a path, and the directories on the way to it."""
        above = os.path.dirname(path)
        while above and above not in self.found:
            self.put(above, _DIRECTORY)
            above = os.path.dirname(above)
        self.put(path, what)


def expect_few(parts: Iterable[Names]) -> None:
    """Check that some names together do not take too much memory.

    Raises:
        GraphDriverError: they do.
    """
    if sum(part.size for part in parts) > MOST:
        raise _too_many()


def _too_many() -> GraphDriverError:
    return GraphDriverError(f"its paths and those below it take over {MOST >> 20} MiB of memory")


_Key: TypeAlias = tuple[str, str, int]


class _Cache:
    """The names that were used last: for each layer, those of all layers below it are needed."""

    def __init__(self) -> None:
        self._held: dict[_Key, Names] = {}

    def get(self, key: _Key) -> Names:
        """Return the names for the arguments of `applied_names`."""
        names = self._held.pop(key, None) or _read_applied(*key)
        self._held[key] = names
        size = sum(one.size for one in self._held.values())
        while size > MOST:
            size -= self._held.pop(next(iter(self._held))).size
        return names


_cache: Final = _Cache()


def applied_names(layer: str, record: str, changed: int) -> Names:
    """Return the names in a layer's stored tar.

    Args:
        layer: the layer's directory.
        record: the path of its record.
        changed: the change time of the record, so that names of another layer are not used for it.

    Raises:
        GraphDriverError: one of them is damaged, or there are too many names.
        OSError: they cannot be read now.
    """
    return _cache.get((layer, record, changed))


def _read_applied(layer: str, record: str, _changed: int) -> Names:
    try:
        known = parse(read_text(record, LIMIT))
    except ValueError as error:
        raise GraphDriverError(f"{record} is damaged: {error}") from error
    home, id = os.path.split(layer)
    stream = stored_tar(known, ImageLayout(home).open_tar(id, known))
    names = Names()
    try:
        for entry in TarReader(stream):
            path = b"/".join(clean(entry.name))
            directory, name = os.path.split(path)
            if name == whiteout.OPAQUE:
                names.opaque.add(directory)
            elif name.startswith(whiteout.META_PREFIX):
                continue
            elif name.startswith(whiteout.PREFIX):
                hidden = os.path.join(directory, whiteout.target(name))
                if hidden not in names.found:
                    names.put(hidden, _DELETED)
            elif path:
                is_directory = entry.type is EntryType.DIRECTORY
                is_file = entry.type is EntryType.FILE
                names.add(path, _DIRECTORY if is_directory else entry.size if is_file else 0)
    finally:
        stream.close()
    return names


def written_names(upper_fd: int) -> Names:
    """Return the names in an upper directory; ``upper_fd`` is borrowed.

    Raises:
        GraphDriverError: there are too many names.
        OSError: it cannot be read.
    """
    names = Names()
    with Dir.at(upper_fd, b".") as root:
        if is_opaque(root, TRUSTED):
            names.opaque.add(_ROOT)
    for node in walk(upper_fd):
        if is_whiteout(node.stat):
            names.put(node.path, _DELETED)
        elif stat.S_ISDIR(node.stat.st_mode):
            names.put(node.path, _DIRECTORY)
            if is_opaque_at(node.parent_fd, node.name, TRUSTED):
                names.opaque.add(node.path)
        else:
            is_file = stat.S_ISREG(node.stat.st_mode)
            names.put(node.path, node.stat.st_size if is_file else 0)
    return names


def changes(parts: Sequence[Names], below: Sequence[Names]) -> Iterator[SizedChange]:
    """Yield the changes that a layer makes.

    Args:
        parts: the names in the layer, the upper directory first.
        below: those of the layers below it, nearest first.
    """
    under = _Shown(below)
    for at, part in enumerate(parts):
        nearer = _Shown(parts[:at])
        for path, what in part.found.items():
            if nearer.decides(path):
                continue
            was_there = under.is_there(path)
            if what != _DELETED:
                kind = ChangeKind.MODIFIED if was_there else ChangeKind.ADDED
                shown = path + b"/" if what == _DIRECTORY else path
                yield SizedChange(_path(shown), kind, max(what, 0))
            elif was_there:
                yield SizedChange(_path(path), ChangeKind.DELETED, 0)
    opaque = set().union(*(part.opaque for part in parts))
    if opaque:
        for path in _hidden(opaque, _Shown(parts), under):
            yield SizedChange(_path(path), ChangeKind.DELETED, 0)


def _hidden(opaque: set[bytes], mine: _Shown, under: _Shown) -> Iterator[bytes]:
    """Yield the paths that a layer only deletes by opaque directories."""
    below = under.directories()
    waiting = list(opaque)
    while waiting:
        for path in below.pop(waiting.pop(), ()):
            what = mine.find(path)
            if what == _DIRECTORY:
                waiting.append(path)  # it is there again, without what was in it
            elif what is None and under.is_there(path):
                yield path


class _Shown:
    """The names that some parts show together; the nearest part that knows a name decides.

    Args:
        parts: the nearest first.
    """

    def __init__(self, parts: Sequence[Names]) -> None:
        self._parts = parts
        self._reached = {_ROOT: self._end(_ROOT, len(parts))}

    def is_there(self, path: bytes) -> bool:
        """Tell whether a path is shown; the root is, if there is any part."""
        if not path:
            return bool(self._parts)
        what = self.find(path)
        return what is not None and what != _DELETED

    def decides(self, path: bytes) -> bool:
        """Tell whether one of the parts has a path or hides it from the parts below."""
        reached = self._merged(os.path.dirname(path))
        return reached < len(self._parts) or self.find(path) is not None

    def directories(self) -> dict[bytes, set[bytes]]:
        """Return the paths in each directory of any part, hidden ones too."""
        paths: dict[bytes, set[bytes]] = {}
        for part in self._parts:
            for path in part.found:
                paths.setdefault(os.path.dirname(path), set()).add(path)
        return paths

    def find(self, path: bytes) -> int | None:
        """Return what a path is; None: no part has it."""
        for part in self._parts[: self._merged(os.path.dirname(path))]:
            if (what := part.found.get(path)) is not None:
                return what
        return None

    def _merged(self, directory: bytes) -> int:
        """Return how many parts can show something in a directory, given its path."""
        waiting = []
        while directory not in self._reached:
            waiting.append(directory)
            directory = os.path.dirname(directory)
        reached = self._reached[directory]
        for one in reversed(waiting):
            reached = self._reached[one] = self._end(one, reached)
        return reached

    def _end(self, directory: bytes, above: int) -> int:
        for number, part in enumerate(self._parts[:above]):
            if part.found.get(directory, _DIRECTORY) != _DIRECTORY:
                return number
            if directory in part.opaque:
                return number + 1
        return above


def _path(path: bytes) -> str:
    return os.fsdecode(b"/" + path)
