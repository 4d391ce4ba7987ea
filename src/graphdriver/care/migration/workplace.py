"""The directory in which a migration is made: its journal, and homes that no daemon may use yet.

``DATA-ROOT/.graphdriver-migration/``:

- ``journal.json``: the two sides, and how far the migration is. It is there from the first change to
  the last, so a migration that was killed is found again.
- ``old``: the old home, once it was put aside. ``new``: the new one, until it is complete.

The name of a home that is not complete is a *block*: a symlink that leads nowhere. No daemon and no
plugin can start on it, or make an empty home in its place. A home takes the place of a block, or the
block that of a home, by one exchange of names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
from dataclasses import dataclass
from typing import Final

from graphdriver.care.migration.plan import Side, Way
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.files.small_files import read_object, write_whole
from graphdriver.linux.rename import exchange

NAME: Final = ".graphdriver-migration"

_BLOCK: Final = "/dev/null/interrupted-migration-run-graphdriver-migrate-again"
"""Below a file nothing can be made, and every call with the name fails with ENOTDIR."""


class Stage(enum.Enum):
    """How far a migration is."""

    TRANSFERRING = "transferring"
    """Layers are transferred; the daemon's records name the old side."""
    SWITCHING = "switching"
    """The new home has all layers and is on disk; the records are changed."""
    ENDING = "ending"
    """A daemon can start on the new side; what is left of the old one is removed."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The migration that is made in a data root.

    Attributes:
        source: the old side.
        target: the new side.
        way: how layers are transferred.
        keeps: whether the old side's layers stay.
        stage: how far it is.
    """

    source: Side
    target: Side
    way: Way
    keeps: bool
    stage: Stage = Stage.TRANSFERRING


class Workplace:
    """The working directory of a data root's migration; it need not exist.

    Args:
        data_root: the daemon's directory.

    Attributes:
        old: the path of the old home when it was put aside.
        new: the path of the new home until it is complete.
    """

    def __init__(self, data_root: str) -> None:
        self._data_root = data_root
        self.path = os.path.join(data_root, NAME)
        self._journal = os.path.join(self.path, "journal.json")
        self.old = os.path.join(self.path, "old")
        self.new = os.path.join(self.path, "new")

    def journal(self) -> Journal | None:
        """Return the migration that was begun and did not end; None: each one ended.

        Raises:
            GraphDriverError: the journal is damaged.
            OSError: it cannot be read.
        """
        try:
            found = read_object(self._journal)
            return Journal(
                _side(found["source"], self._data_root),
                _side(found["target"], self._data_root),
                Way(found["way"]),
                _truth(found["keeps"]),
                Stage(found["stage"]),
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise GraphDriverError(
                f"{self._journal} is damaged, so the interrupted migration cannot go on: {error}",
                hint="write it again: both sides (source, target), way, keeps and stage",
            ) from error

    def write(self, journal: Journal) -> None:
        """Write the journal, on disk when this returns; the first time make the directory."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.path, 0o700)
        members = {
            "source": _members(journal.source),
            "target": _members(journal.target),
            "way": journal.way.value,
            "keeps": journal.keeps,
            "stage": journal.stage.value,
        }
        write_whole(self._journal, json.dumps(members), 0o600)
        sync_directory(self.path)
        sync_directory(self._data_root)

    def expect_exchanges(self) -> None:
        """Check that the filesystem can exchange names, before anything depends on it.

        Raises:
            UnsupportedError: it cannot.
        """
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.path, 0o700)
        self.block(self.old)
        self.block(self.new)
        try:
            exchange(self.old, self.new)
        except OSError as error:
            self.remove()
            raise UnsupportedError(
                f"the filesystem of {self._data_root} cannot exchange two names: {error.strerror}",
                hint="ext4, XFS, btrfs and tmpfs can",
            ) from error
        os.unlink(self.old)
        os.unlink(self.new)

    def block(self, path: str) -> None:
        """Keep everybody from using a path that does not exist, or is blocked already."""
        with contextlib.suppress(FileExistsError):
            os.symlink(_BLOCK, path)

    def unblock(self, path: str) -> None:
        """Let a path be used again."""
        if is_blocked(path):
            os.unlink(path)
            self.sync()

    def put_aside(self, home: str) -> None:
        """Put a home aside, as `old`, and block its name; succeed if that was done before."""
        if is_blocked(home):
            return
        self.block(self.old)
        exchange(home, self.old)
        self.sync()

    def put_back(self, home: str) -> None:
        """Give a home that was put aside its name again; succeed if that was done before."""
        if is_blocked(home):
            exchange(self.old, home)
        self.sync()

    def publish(self, home: str) -> None:
        """Give the new home its name, which was blocked; succeed if that was done before."""
        if is_blocked(home):
            exchange(self.new, home)
        self.sync()

    def remove(self) -> None:
        """Remove the directory, in which no home is left."""
        for path in (self.old, self.new):
            self.unblock(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._journal)
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(self.path)
        sync_directory(self._data_root)

    def sync(self) -> None:
        """Wait until renames in this directory and beside it are on disk."""
        sync_directory(self.path)
        sync_directory(self._data_root)


def is_blocked(path: str) -> bool:
    """Tell whether a path is a block."""
    try:
        return os.readlink(path) == _BLOCK
    except OSError:
        return False


def sync_directory(path: str) -> None:
    """Wait until the names in a directory are on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _members(side: Side) -> dict[str, object]:
    found = dataclasses.asdict(side)
    del found["data_root"]  # it may be moved, or mounted elsewhere
    return found


def _side(found: object, data_root: str) -> Side:
    if not isinstance(found, dict):
        raise TypeError("a side is not a JSON object")
    name, driver = found["name"], found["driver"]
    if not (isinstance(name, str) and isinstance(driver, str)):
        raise TypeError("the name of a side is not a text")
    return Side(data_root, name, driver, _truth(found["is_built_in"]))


def _truth(found: object) -> bool:
    if not isinstance(found, bool):
        raise TypeError("what must be true or false is neither")
    return found
