"""The two places in which a fault is planted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from graphdriver.driver import (
    Capabilities,
    Change,
    ClosableStream,
    Driver,
    IDMap,
    ProtoDriver,
    ReadStream,
)
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.naive import NaiveDiffDriver
from tests.conformance.kit.fault import Faults
from tests.conformance.plugin.faults.proxy import Proxy


class Broken(Driver):
    """A driver that hands every call on to one that works; a fault overrides what it breaks."""

    good: ClassVar[Callable[[], ProtoDriver]] = VfsDriver
    """Makes the driver that works."""

    def __init__(self) -> None:
        made = type(self).good()
        self.whole = made if isinstance(made, Driver) else NaiveDiffDriver(made)
        self.home = ""
        """Where it keeps its layers, after Init."""

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        self.whole.init(home, options, uid_maps, gid_maps)
        self.home = home

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        self.whole.create(id, parent, mount_label, storage_opt)

    def create_read_write(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        self.whole.create_read_write(id, parent, mount_label, storage_opt)

    def remove(self, id: str) -> None:
        self.whole.remove(id)

    def get(self, id: str, mount_label: str) -> str:
        return self.whole.get(id, mount_label)

    def put(self, id: str) -> None:
        self.whole.put(id)

    def exists(self, id: str) -> bool:
        return self.whole.exists(id)

    def status(self) -> Sequence[tuple[str, str]]:
        return self.whole.status()

    def get_metadata(self, id: str) -> Mapping[str, str]:
        return self.whole.get_metadata(id)

    def cleanup(self) -> None:
        self.whole.cleanup()

    def diff(self, id: str, parent: str) -> ClosableStream:
        return self.whole.diff(id, parent)

    def changes(self, id: str, parent: str) -> Sequence[Change]:
        return tuple(self.whole.changes(id, parent))

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        return self.whole.apply_diff(id, parent, archive)

    def diff_size(self, id: str, parent: str) -> int:
        return self.whole.diff_size(id, parent)

    def capabilities(self) -> Capabilities:
        return self.whole.capabilities()


FAULTS: Faults[Broken | Proxy] = Faults()
"""All of them, once the modules of this package are imported."""

caught_by = FAULTS.caught_by
