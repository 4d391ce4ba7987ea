"""Makes a directory with layers a home of its new side: what that driver expects besides the layers."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Final

from graphdriver.care.migration.layouts import dockers_own, remove_home
from graphdriver.care.migration.new_home import finish
from graphdriver.care.migration.plan import Side
from graphdriver.driver import IDMap
from graphdriver.drivers.loading import make
from graphdriver.serving.home import Home

_REMAPPED: Final = re.compile(r"\d+\.(\d+)")


def adopt(side: Side, home: str) -> None:
    """Make a directory with all layers in a side's layout a home of that side; it may be done again.

    Args:
        side: the side.
        home: where the directory is now.

    Raises:
        GraphDriverError: it is in use, or cannot become a home.
        OSError: it cannot be written to.
    """
    if side.is_built_in:
        for name in os.listdir(home):
            if name.startswith("."):  # of ours
                remove_home(side, os.path.join(home, name))
    if own := dockers_own(side.driver):
        own.complete(home, is_dockers=side.is_built_in)
    if side.is_built_in:
        return
    finish(home)
    group = group_of(side.data_root)
    maps = (IDMap(0, group, 1),) if group else ()
    with contextlib.closing(Home(home, maps, adopt=True)) as ours:
        driver = make(side.driver)
        ours.claim("docker", driver.driver_name or side.driver, driver.home_format)


def group_of(data_root: str) -> int:
    """Return the group of the daemon's root: that of a directory for remapped IDs is in its name."""
    found = _REMAPPED.fullmatch(os.path.basename(data_root))
    return int(found[1]) if found else 0
