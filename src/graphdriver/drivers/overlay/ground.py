"""What layers on overlays stand on: how they are mounted, and where."""

from __future__ import annotations

from dataclasses import dataclass

from graphdriver.drivers.overlay.mounts import Mounter
from graphdriver.drivers.overlay.options import HomeOptions


@dataclass(frozen=True, slots=True)
class Ground:
    """How a home is served: what a driver on overlays has to say of it.

    ``backing`` is the filesystem's name. ``is_native`` tells that upper folders hold the mounter's
    marks alone, so that layers can be read and written there.
    """

    driver: str
    mounter: Mounter
    options: HomeOptions
    backing: str
    is_native: bool = True
