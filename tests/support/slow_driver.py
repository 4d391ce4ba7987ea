"""A driver whose calls last until a test allows them to end."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from graphdriver.drivers.vfs.driver import VfsDriver


class Slow(VfsDriver):
    """Makes a layer when it is allowed to."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = threading.Event()

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        assert self.allowed.wait(60)
        super().create(id, parent, mount_label, storage_opt)
