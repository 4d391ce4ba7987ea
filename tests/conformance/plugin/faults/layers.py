"""Faults in the life of a layer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from graphdriver.driver import mounted
from graphdriver.errors import GraphDriverError
from tests.conformance.plugin.faults.fault import Broken, caught_by
from tests.conformance.plugin.faults.proxy import Answer, Proxy, Request


@caught_by("layers/exists-from-create-to-remove")
class KnowsEveryLayer(Broken):
    """Exists is always true."""

    def exists(self, id: str) -> bool:
        return True


@caught_by("layers/new-layer-is-empty")
class NewLayersAreClosed(Broken):
    """A new layer's directory is 0700, as tempfile makes directories."""

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        super().create(id, parent, mount_label, storage_opt)
        with mounted(self.whole, id) as root:
            os.chmod(root, 0o700)


@caught_by("layers/remove-of-nothing-succeeds")
class RemoveOfNothingIsAnError(Broken):
    """Remove of a layer that does not exist is refused."""

    def remove(self, id: str) -> None:
        if not self.exists(id):
            raise GraphDriverError("there is no such layer")
        super().remove(id)


@caught_by("layers/removed-id-can-be-used-again")
class RemoveLeavesTheContent(Broken):
    """Remove forgets a layer and leaves its files, which the next one of that ID shows."""

    def remove(self, id: str) -> None:
        kept = []
        if self.exists(id):
            with mounted(self.whole, id) as root:
                kept = os.listdir(root)
        super().remove(id)
        self._kept = {**getattr(self, "_kept", {}), id: kept}

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        super().create(id, parent, mount_label, storage_opt)
        with mounted(self.whole, id) as root:
            for name in getattr(self, "_kept", {}).get(id, []):
                Path(root, name).touch()


@caught_by("layers/mounted-layer-can-be-removed")
class GotLayersAreBusy(Broken):
    """Remove of a layer that was got and not put is refused."""

    def __init__(self) -> None:
        super().__init__()
        self._got: list[str] = []

    def get(self, id: str, mount_label: str) -> str:
        self._got.append(id)
        return super().get(id, mount_label)

    def put(self, id: str) -> None:
        self._got.remove(id)
        super().put(id)

    def remove(self, id: str) -> None:
        if id in self._got:
            raise GraphDriverError("device or resource busy")
        super().remove(id)


@caught_by("layers/id-is-used-once")
class CreateTwiceIsNoError(Broken):
    """Create of an ID that exists succeeds, and does nothing."""

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        if not self.exists(id):
            super().create(id, parent, mount_label, storage_opt)


@caught_by("layers/parent-must-exist")
class MissingParentsAreEmpty(Broken):
    """A parent that does not exist is taken for none."""

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        parent = parent if parent and self.exists(parent) else ""
        super().create(id, parent, mount_label, storage_opt)


@caught_by("layers/gets-nest")
class EachGetHasADirectoryOfItsOwn(Broken):
    """Every Get answers another path to the same layer."""

    def get(self, id: str, mount_label: str) -> str:
        link = os.path.join(tempfile.mkdtemp(), "root")
        os.symlink(super().get(id, mount_label), link)
        return link


@caught_by("layers/status-and-metadata-are-text")
class MetadataHoldsNumbers(Proxy):
    """GetMetadata answers numbers."""

    def exchange(self, request: Request) -> Answer:
        if request.call == "GetMetadata":
            request.whole()
            return Answer.of(200, b'{"Metadata": {"Layers": 3}}')
        return super().exchange(request)
