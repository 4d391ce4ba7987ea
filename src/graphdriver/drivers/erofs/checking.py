"""The check of a home with images, and its repair: that of the overlay family, and the mount points."""

from __future__ import annotations

import contextlib
import hashlib
import os

from graphdriver.drivers.erofs.layout import LOST_MOUNT_POINT, ImageLayout
from graphdriver.drivers.overlay.checking import OverlayChecks
from graphdriver.errors import BrokenStreamError
from graphdriver.homes import Damage
from graphdriver.layer.erofs.store import stored_tar
from graphdriver.layer.erofs.stored_tar import PIECE


def wrong_content(layout: ImageLayout, id: str) -> str | None:
    """Return what is wrong with a layer's tar (`graphdriver.homes.ChecksContent`).

    The index behind it is not recorded: a damaged one gives errors of the kernel.
    """
    if not layout.is_applied(id):
        return None
    record = layout.record(id)
    digest = hashlib.sha256()
    with contextlib.closing(stored_tar(record, layout.open_tar(id, record))) as tar:
        try:
            while piece := tar.read(PIECE):
                digest.update(piece)
        except BrokenStreamError as error:
            return error.problem.replace("the layer's", "its", 1)
    if digest.digest() != record.sha256:
        return "its tar is not the one that was applied: its SHA-256 is another one"
    return ""


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
