"""Faults in what is known of snapshots."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from graphdriver.abilities import Mount, Usage
from graphdriver.containerd.metadata import Snapshot, SnapshotKind
from graphdriver.errors import GraphDriverError, LayerNotFoundError, MalformedRequestError
from tests.conformance.snapshotter.faults.fault import Broken, Labels, caught_by


@caught_by("metadata/kinds-names-and-parents")
class EverythingIsActive(Broken):
    """Stat calls every snapshot active."""

    def stat(self, key: str) -> Snapshot:
        return replace(super().stat(key), kind=SnapshotKind.ACTIVE)


@caught_by("metadata/committed-key-is-gone")
class CommitLeavesTheKey(Broken):
    """Commit leaves an active snapshot of the same key."""

    def commit(self, name: str, key: str, labels: Labels, parent: str = "") -> None:
        super().commit(name, key, labels, parent)
        super().prepare(key, "", {})


@caught_by("metadata/times-at-creation")
class TimesAreWholeSeconds(Broken):
    """Times are told in seconds."""

    def stat(self, key: str) -> Snapshot:
        found = super().stat(key)
        second = 10**9
        return replace(
            found,
            created=found.created // second * second,
            updated=found.updated // second * second,
        )


@caught_by("metadata/labels-are-kept")
class EmptyLabelsAreDropped(Broken):
    """A label without a value is none."""

    def prepare(self, key: str, parent: str, labels: Labels) -> Sequence[Mount]:
        return super().prepare(key, parent, {k: v for k, v in labels.items() if v})


@caught_by("metadata/commit-replaces-labels")
class CommitAddsLabels(Broken):
    """Commit keeps the labels that the active snapshot had."""

    def commit(self, name: str, key: str, labels: Labels, parent: str = "") -> None:
        super().commit(name, key, {**self.stat(key).labels, **labels}, parent)


@caught_by("metadata/update-of-one-label")
class MasksAreIgnored(Broken):
    """Update replaces all labels, whatever the mask."""

    def update(
        self, key: str, labels: Mapping[str, str], paths: Sequence[str] | None = None
    ) -> Snapshot:
        return super().update(key, labels, [])


@caught_by("metadata/update-of-all-labels")
class NoMaskChangesNothing(Broken):
    """Update with an empty mask changes nothing."""

    def update(
        self, key: str, labels: Mapping[str, str], paths: Sequence[str] | None = None
    ) -> Snapshot:
        return super().update(key, labels, paths) if paths else self.stat(key)


@caught_by("metadata/update-moves-one-time")
class UpdateIsACreation(Broken):
    """Update moves the time of creation, too."""

    def update(
        self, key: str, labels: Mapping[str, str], paths: Sequence[str] | None = None
    ) -> Snapshot:
        new = super().update(key, labels, paths)
        return replace(new, created=new.updated)


@caught_by("metadata/update-of-other-fields")
class UnknownPathsAreIgnored(Broken):
    """Update passes over what cannot be changed."""

    def update(
        self, key: str, labels: Mapping[str, str], paths: Sequence[str] | None = None
    ) -> Snapshot:
        known = [path for path in paths or () if path.startswith("labels")]
        return super().update(key, labels, known) if known or not paths else self.stat(key)


@caught_by("metadata/list-returns-all")
class ListHidesCommittedOnes(Broken):
    """List without a filter tells what is active, and views."""

    def find(self, filters: Iterable[str]) -> list[Snapshot]:
        wanted = list(filters)
        found = super().find(wanted)
        return found if wanted else [one for one in found if one.kind is not SnapshotKind.COMMITTED]


@caught_by("metadata/list-with-filters")
class FiltersAreIgnored(Broken):
    """List tells every snapshot, whatever the filter."""

    def find(self, filters: Iterable[str]) -> list[Snapshot]:
        return super().find([])


@caught_by("metadata/bad-filters-are-invalid")
class BadFiltersFindNothing(Broken):
    """What is no filter lets nothing pass."""

    def find(self, filters: Iterable[str]) -> list[Snapshot]:
        with contextlib.suppress(MalformedRequestError):
            return super().find(filters)
        return []


@caught_by("metadata/usage-is-the-snapshots-own")
class NothingIsUsed(Broken):
    """Usage is always nothing."""

    def usage(self, key: str) -> Usage:
        super().usage(key)
        return Usage(0, 0)


@caught_by("metadata/cleanup-keeps-snapshots")
class CleanupRemoves(Broken):
    """Cleanup removes what nothing stands on."""

    def cleanup(self) -> list[str]:
        for one in self.find([]):
            with contextlib.suppress(GraphDriverError):
                self.remove(one.key)
        return super().cleanup()


@caught_by("metadata/callers-at-once")
class OneCallerAtATime(Broken):
    """A Prepare while another is under way is refused."""

    _turn = threading.Lock()

    def prepare(self, key: str, parent: str, labels: Labels) -> Sequence[Mount]:
        if not self._turn.acquire(blocking=False):
            raise GraphDriverError("busy")
        try:
            time.sleep(0.02)
            return super().prepare(key, parent, labels)
        finally:
            self._turn.release()


@caught_by("refusals/missing-keys")
class RemoveOfNothingSucceeds(Broken):
    """Remove of a key that is not there is a success, as it is for Docker."""

    def remove(self, key: str) -> None:
        with contextlib.suppress(LayerNotFoundError):
            super().remove(key)
