"""Faults in what is known after a restart of the plugin."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

from graphdriver.driver import IDMap, ReadStream
from graphdriver.errors import GraphDriverError
from tests.conformance.plugin.faults.fault import Broken, caught_by
from tests.conformance.plugin.faults.mounting import Mounting
from tests.conformance.plugin.faults.proxy import Answer, Proxy, Request


@caught_by("restart/layers-outlive-the-plugin")
class KnowsOnlyWhatItMade(Broken):
    """The list of layers is in memory alone."""

    def __init__(self) -> None:
        super().__init__()
        self._made: set[str] = set()

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        super().create(id, parent, mount_label, storage_opt)
        self._made.add(id)

    def exists(self, id: str) -> bool:
        return id in self._made and super().exists(id)


class _BeforeInit(Proxy):
    """Answers calls itself until an Init has come to this process."""

    _had_one: ClassVar[bool] = False
    told: ClassVar[tuple[int, bytes]]

    def exchange(self, request: Request) -> Answer:
        if request.call == "Init":
            _BeforeInit._had_one = True
        if not self._had_one and request.call not in ("Activate", "Capabilities"):
            request.whole()
            return Answer.of(*self.told)
        return super().exchange(request)


@caught_by("restart/calls-without-an-init")
class NoInitMeansNoLayers(_BeforeInit):
    """Without an Init no layer exists."""

    told = 200, b'{"Exists": false, "Dir": "/"}'


@caught_by("restart/home-is-remembered")
class NoInitMeansNoHome(_BeforeInit):
    """Without an Init every call is refused."""

    told = 500, b'{"Err": "the plugin is not initialised"}'


@caught_by("restart/mount-outlives-a-kill")
class CleansUpAtItsStart(Mounting):
    """What a former process has mounted is unmounted."""

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        super().init(home, options, uid_maps, gid_maps)
        super().cleanup()


@caught_by("restart/mount-outlives-sigterm")
class UnmountsAtItsEnd(Mounting):
    """What is mounted is unmounted when the plugin ends."""

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        super().init(home, options, uid_maps, gid_maps)
        atexit.register(super().cleanup)


@caught_by("restart/ends-on-sigterm")
class WaitsForItsDaemon(Broken):
    """A plugin that is told to end waits until its daemon has gone."""

    def __init__(self) -> None:
        super().__init__()
        atexit.register(time.sleep, 2.5)


class _Busy(Broken):
    """Keeps a file of each layer that is being applied to."""

    def file(self, id: str) -> str:
        return os.path.join(self.home, f".busy-{id}")

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        with open(self.file(id), "w", encoding="ascii"):
            pass
        size = super().apply_diff(id, parent, archive)
        os.unlink(self.file(id))
        return size


@caught_by("restart/killed-in-a-transfer")
class HalfLayersCannotBeRemoved(_Busy):
    """A layer whose transfer did not end is busy for ever."""

    def remove(self, id: str) -> None:
        if os.path.exists(self.file(id)):
            raise GraphDriverError("the layer is being applied to")
        super().remove(id)


@caught_by("restart/half-layer-is-unusable")
class NothingIsMarked(_Busy):
    """On disk nothing tells a half layer from a whole one."""

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        os.unlink(os.path.join(self.home, ".graphdriver", "applying", id))
        return super().apply_diff(id, parent, archive)


@caught_by("restart/daemon-finds-the-plugin-again")
class StaleSocketsStopIt(Proxy):
    """A socket that is there already is somebody else's."""

    clears_stale = False
