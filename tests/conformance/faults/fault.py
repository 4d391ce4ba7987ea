"""What a fault is, and the two places in which one is planted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

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
from tests.conformance.faults.proxy import Proxy


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


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        name: what `tests.conformance.faulty` calls it.
        tells: what is wrong, in a sentence.
        case: the case that must fail by it.
        planted: where.
    """

    name: str
    tells: str
    case: str
    planted: type[Broken | Proxy]


FAULTS: list[Fault] = []
"""All of them, once `tests.conformance.faults.every` is imported."""

T = TypeVar("T", type[Broken], type[Proxy])


def caught_by(case: str) -> Callable[[T], T]:
    """Make a fault of a class; its name and its docstring become the fault's."""

    def add(planted: T) -> T:
        name = re.sub("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", planted.__name__).lower()
        FAULTS.append(Fault(name, planted.__doc__ or "", case, planted))
        return planted

    return add
