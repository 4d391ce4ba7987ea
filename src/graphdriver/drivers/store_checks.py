"""What an interrupted process left in a home's store, and the end of it.

The drivers that keep layers in a `graphdriver.store.Store` include these checks in theirs. For other
drivers `graphdriver.care` makes them: without the store's directories they find nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterator
from typing import Final

from graphdriver.homes import Damage
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.store import DELETING, STAGING, TRASH, Store

UNFINISHED_CREATE: Final = "unfinished-create"
UNFINISHED_REMOVAL: Final = "unfinished-removal"
CODES: Final = frozenset({UNFINISHED_CREATE, UNFINISHED_REMOVAL})
"""The codes of these damages. In a served home they are what the process just does."""

_CONTINUE: Final = "continue the removal"


class StoreChecks:
    """The checks of the directories of a `graphdriver.store.Store`.

    Args:
        own: names in the home that the driver uses itself.
        delete: as for the store.
    """

    def __init__(
        self, own: Collection[str] = (), delete: Callable[[int, bytes], None] = remove_tree
    ) -> None:
        self._own = own
        self._delete = delete

    def check_home(self, home: str) -> Iterator[Damage]:
        """Yield layers whose Create or Remove did not end."""
        for id in _names(f"{home}/{STAGING}"):
            path = f"{home}/{STAGING}/{id}"
            yield Damage(
                UNFINISHED_CREATE, id, "its Create did not end", "remove what it left", path=path
            )
        if trashed := len(_names(f"{home}/{TRASH}")):
            text = f"{trashed} removed layer{'s are' if trashed > 1 else ' is'} not deleted yet"
            yield Damage(UNFINISHED_REMOVAL, "", text, "delete the rest", path=f"{home}/{TRASH}")
        for id in _names(home):
            path = f"{home}/{id}"
            if not id.startswith(".") and id not in self._own and _is_being_deleted(path):
                yield Damage(
                    UNFINISHED_REMOVAL, id, "its removal did not end", _CONTINUE, path=path
                )

    def mend_home(self, home: str, damage: Damage) -> None:
        """Sweep the home, as a start of a plugin does; wait until all is deleted."""
        trash = f"{home}/{TRASH}"
        if not (_names(trash) if damage.path == trash else os.path.lexists(damage.path)):
            return  # an earlier sweep was for all
        store = Store(home, os.stat(home).st_gid, self._own, self._delete)
        store.settle()
        if _names(trash) if damage.path == trash else os.path.lexists(damage.path):
            reasons = "; ".join(value for _, value in store.status())
            raise OSError(reasons or f"{damage.path} cannot be removed")


def _names(directory: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(os.listdir(directory))
    return []


def _is_being_deleted(path: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        return stat.S_ISDIR(mode) and stat.S_IMODE(mode) == DELETING
    return False
