"""The driver whose responses are the examples of docs/protocol.md: the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping

from graphdriver import UnsupportedError
from graphdriver.drivers.vfs.driver import VfsDriver


class Example(VfsDriver):
    """Each layer is a directory ``HOME/dir/ID``."""

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        if storage_opt:
            raise UnsupportedError("this driver has no options", hint="leave out --storage-opt")
        super().create(id, parent, mount_label, storage_opt)

    def status(self) -> list[tuple[str, str]]:
        return [("Storage", "plain directories"), ("Copies", "reflinks")]

    def get_metadata(self, id: str) -> dict[str, str]:
        return {"Layer": "a plain directory"}
