"""The check of a home with images, and its repair: that of the overlay family, and the mount points."""

from __future__ import annotations

import os

from graphdriver.drivers.erofs.layout import LOST_MOUNT_POINT, ImageLayout
from graphdriver.drivers.overlay.checking import OverlayChecks
from graphdriver.homes import Damage


class ImageChecks(OverlayChecks):
    """The checks of one home.

    Args:
        layout: the home's files.
    """

    def __init__(self, layout: ImageLayout) -> None:
        super().__init__(layout)
        self.mends[LOST_MOUNT_POINT] = self._mend_mount_point

    def _mend_mount_point(self, damage: Damage) -> None:
        os.unlink(damage.path)
        os.mkdir(damage.path, 0o755)
