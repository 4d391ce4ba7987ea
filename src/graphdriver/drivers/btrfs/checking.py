"""The check of a home, and its repair (`graphdriver.homes.ChecksHome`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from graphdriver.drivers.btrfs.subvolumes import ROOT, delete_layer
from graphdriver.drivers.layer_checks import check_tree, mend_owner
from graphdriver.drivers.store_checks import CODES, StoreChecks
from graphdriver.files.directories import opened
from graphdriver.homes import Damage
from graphdriver.linux import btrfs
from graphdriver.store import layers_in

PLAIN_DIRECTORY: Final = "plain-directory"

_STORE: Final = StoreChecks(delete=delete_layer)


def check_home(home: str) -> Iterator[Damage]:
    """Yield what is wrong in a home."""
    yield from _STORE.check_home(home)
    for id in layers_in(home):
        yield from check_tree(home, id, ROOT, (ROOT,))
        path = f"{home}/{id}/{ROOT}"
        with contextlib.suppress(OSError), opened(path) as fd:
            if not btrfs.is_subvolume(fd):
                text = (
                    f"{path} is a plain directory, and no subvolume, so no layer can be made on it"
                )
                yield Damage(PLAIN_DIRECTORY, id, text, path=path)


def mend_home(home: str, damage: Damage) -> None:
    """Repair one damage."""
    if damage.code in CODES:
        _STORE.mend_home(home, damage)
    else:
        mend_owner(damage)
