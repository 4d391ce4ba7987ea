"""The check of a home, and its repair (`graphdriver.homes.ChecksHome`).

A damaged note of the parent is no damage: the layer is whole, and compared file by file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from graphdriver.drivers.layer_checks import check_tree, mend_owner
from graphdriver.drivers.store_checks import CODES, StoreChecks
from graphdriver.drivers.vfs.reading import MADE, ROOT
from graphdriver.homes import Damage
from graphdriver.store import layers_in

_STORE: Final = StoreChecks()


def check_home(home: str) -> Iterator[Damage]:
    """Yield what is wrong in a home."""
    yield from _STORE.check_home(home)
    for id in layers_in(home):
        yield from check_tree(home, id, ROOT, (ROOT, MADE))


def mend_home(home: str, damage: Damage) -> None:
    """Repair one damage."""
    if damage.code in CODES:
        _STORE.mend_home(home, damage)
    else:
        mend_owner(damage)
