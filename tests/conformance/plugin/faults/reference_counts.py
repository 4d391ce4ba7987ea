"""Faults in what Gets and Puts show."""

from __future__ import annotations

from collections.abc import Sequence

from graphdriver.driver import IDMap
from graphdriver.errors import GraphDriverError
from tests.conformance.plugin.faults.fault import caught_by
from tests.conformance.plugin.faults.mounting import Mounting


@caught_by("reference-counts/many-gets-one-directory")
class TheFirstPutUnmounts(Mounting):
    """One Put ends all Gets."""

    def put(self, id: str) -> None:
        self.counts[id] = 0
        super().put(id)


@caught_by("reference-counts/put-without-a-get-does-no-harm")
class CountsGoBelowZero(Mounting):
    """A Put too many is made up for by a Get that shows nothing for long."""

    def put(self, id: str) -> None:
        self.whole.put(id)
        self.counts[id] = self.counts.get(id, 0) - 1
        if self.counts[id] <= 0 and id in self.mounted():
            self.unmount(id)


@caught_by("reference-counts/last-put-unmounts")
class PutUnmountsNothing(Mounting):
    """What was got stays mounted until it is removed."""

    def put(self, id: str) -> None:
        self.whole.put(id)


@caught_by("reference-counts/remove-unmounts")
class RemoveUnmountsNothing(Mounting):
    """Remove leaves a layer's mount."""

    def remove(self, id: str) -> None:
        self.whole.remove(id)


@caught_by("reference-counts/cleanup-unmounts")
class CleanupUnmountsNothing(Mounting):
    """Cleanup leaves what is mounted."""

    def cleanup(self) -> None:
        self.whole.cleanup()


@caught_by("reference-counts/live-container-outlives-its-daemon")
class CountsBeginAtZero(Mounting):
    """After a daemon's restart nothing counts as got."""

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        super().init(home, options, uid_maps, gid_maps)
        self.counts.clear()


@caught_by("reference-counts/layer-of-a-former-daemon-can-be-removed")
class MountedLayersAreBusy(Mounting):
    """What is mounted cannot be removed."""

    def remove(self, id: str) -> None:
        if id in self.mounted():
            raise GraphDriverError("device or resource busy")
        super().remove(id)
