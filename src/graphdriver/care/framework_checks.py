"""The checks of what the framework itself keeps in a home, whatever driver it has.

A mark without a layer is left by a kill between the two steps of a Remove. A layer with a mark is
incomplete: every call but Remove refuses it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from graphdriver.errors import GraphDriverError
from graphdriver.homes import Damage
from graphdriver.serving.home import MARKS, identity_of
from graphdriver.serving.home_contents import IDENTITY
from graphdriver.store import TRASH

UNFINISHED_LAYER: Final = "unfinished-layer"
STALE_MARK: Final = "stale-mark"
LOST_RECORD: Final = "lost-home-record"


class FrameworkChecks:
    """The checks of a home's record and of its marks (`graphdriver.homes.ChecksHome`)."""

    def check_home(self, home: str) -> Iterator[Damage]:
        """Yield what is wrong with the record and the marks."""
        path = f"{home}/{IDENTITY}"
        wrong = f"{path} is missing, so the home's engine and driver are unknown"
        with contextlib.suppress(OSError):
            try:
                wrong = "" if identity_of(home) else wrong
            except GraphDriverError as error:
                wrong = error.problem
        if wrong:
            yield Damage(LOST_RECORD, "", wrong, loses=True, path=path)
        yield from _marks(home)

    def mend_home(self, home: str, damage: Damage) -> None:
        """Remove a stale mark. Layers that have one are removed by `graphdriver.care.fsck`."""
        os.unlink(damage.path)


def _marks(home: str) -> Iterator[Damage]:
    with contextlib.suppress(FileNotFoundError):
        for id in sorted(os.listdir(f"{home}/{MARKS}")):
            path = f"{home}/{MARKS}/{id}"
            # A driver of somebody else's may keep its layers elsewhere: the mark is not stale then.
            if os.path.lexists(f"{home}/{id}") or not _keeps_layers(home):
                text = "it is incomplete: its transfer did not finish"
                yield Damage(UNFINISHED_LAYER, id, text, "remove the layer", path=path)
            else:
                text = "it is marked as incomplete, and does not exist"
                yield Damage(STALE_MARK, id, text, "remove the mark", path=path)


def _keeps_layers(home: str) -> bool:
    """Tell whether a home has a store, and so a directory for each layer."""
    return os.path.isdir(f"{home}/{TRASH}")
