"""The checks of layers' directories that drivers with a `graphdriver.store.Store` have in common."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from graphdriver.errors import LayerDamagedError, UnsupportedError
from graphdriver.files.directories import why_no_directory
from graphdriver.homes import Damage

FOREIGN_OWNER: Final = "foreign-owner"
FOREIGN_LINK: Final = "foreign-link"
NO_LAYER: Final = "no-layer"
NOT_OURS: Final = "lost+found"
"""What mkfs makes in a filesystem, which a home may be."""
LOST_TREE: Final = "lost-tree"


def check_tree(home: str, id: str, tree: str, files: Sequence[str]) -> Iterator[Damage]:
    """Yield what is wrong with a layer that is a whole tree in one directory.

    Args:
        home: the home.
        id: the layer.
        tree: the name of that directory in the layer's.
        files: all names that the driver makes in a layer's directory.
    """
    if has_none_of(home, id, files):
        yield from check_stranger(home, id)
        return
    yield from check_owner(home, id)
    if wrong := why_lost(home, id, tree):
        yield Damage(LOST_TREE, id, wrong, loses=True, path=f"{home}/{id}/{tree}")


def expect_tree(home: str, id: str, tree: str) -> str:
    """Return the path of the directory that is a layer's whole tree.

    Raises:
        LayerDamagedError: it was lost.
    """
    if wrong := why_lost(home, id, tree):
        raise LayerDamagedError.of(id, wrong, home)
    return f"{home}/{id}/{tree}"


def why_lost(home: str, id: str, directory: str) -> str:
    """Return why a directory of a layer is lost, for `Damage.text`; ``""`` if it is not."""
    wrong = why_no_directory(f"{home}/{id}/{directory}")
    return wrong and f"its directory {directory} was lost: {wrong}"


def has_none_of(home: str, id: str, files: Sequence[str]) -> bool:
    """Tell whether none of some files is in a layer's directory."""
    return not any(os.path.lexists(f"{home}/{id}/{name}") for name in files)


def check_stranger(home: str, id: str) -> Iterator[Damage]:
    """Yield that a directory is not a layer: nobody made it as one, or it lost everything."""
    path = f"{home}/{id}"
    if id != NOT_OURS and os.path.isdir(path):
        yield Damage(NO_LAYER, id, f"{path} has none of the files of a layer", path=path)


def check_owner(home: str, id: str) -> Iterator[Damage]:
    """Yield what is wrong with a layer's directory itself: a symlink, or another owner."""
    path = f"{home}/{id}"
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            yield Damage(FOREIGN_LINK, id, f"{path} is a symlink, and not a directory", path=path)
        elif found.st_uid != os.geteuid():
            text = f"{path} belongs to user {found.st_uid}, who can change everything in it"
            yield Damage(FOREIGN_OWNER, id, text, f"give it to user {os.geteuid()}", path=path)


def mend_owner(damage: Damage) -> None:
    """Give a layer's directory back to this user.

    Raises:
        UnsupportedError: the damage is another one.
        OSError: it cannot be done.
    """
    if damage.code != FOREIGN_OWNER:
        raise UnsupportedError(f"{damage.code} cannot be repaired")
    os.chown(damage.path, os.geteuid(), -1, follow_symlinks=False)
