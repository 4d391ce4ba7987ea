"""Faults in what is refused, and with which code."""

from __future__ import annotations

from collections.abc import Sequence

from graphdriver.abilities import Mount
from graphdriver.containerd.metadata import SnapshotKind
from graphdriver.errors import (
    GraphDriverError,
    InUseError,
    LayerExistsError,
    LayerNotFoundError,
    MalformedRequestError,
    UnsupportedError,
)
from tests.conformance.snapshotter.faults.fault import Broken, Labels, caught_by


@caught_by("refusals/missing-parents")
class MissingParentsAreNone(Broken):
    """A parent that is not there is none."""

    def prepare(self, key: str, parent: str, labels: Labels) -> Sequence[Mount]:
        try:
            return super().prepare(key, parent, labels)
        except LayerNotFoundError:
            return super().prepare(key, "", labels)


@caught_by("refusals/used-keys")
class TakenKeysAreShared(Broken):
    """Prepare of a key that is taken tells its mounts."""

    def prepare(self, key: str, parent: str, labels: Labels) -> Sequence[Mount]:
        try:
            return super().prepare(key, parent, labels)
        except LayerExistsError:
            return self.mounts(key)


@caught_by("refusals/used-names")
class TakenNamesAreAFailure(Broken):
    """Commit under a taken name fails, and says not how."""

    def commit(self, name: str, key: str, labels: Labels, parent: str = "") -> None:
        try:
            super().commit(name, key, labels, parent)
        except LayerExistsError as error:
            raise GraphDriverError(str(error)) from error


@caught_by("refusals/parents-that-are-not-committed")
class ActiveParentsAreNotFound(Broken):
    """A parent that is not committed is not found."""

    def prepare(self, key: str, parent: str, labels: Labels) -> Sequence[Mount]:
        try:
            return super().prepare(key, parent, labels)
        except MalformedRequestError as error:
            raise LayerNotFoundError(str(error)) from error


@caught_by("refusals/remove-of-a-parent")
class BusyIsAFailure(Broken):
    """Remove beneath a child fails, and says not how."""

    def remove(self, key: str) -> None:
        try:
            super().remove(key)
        except InUseError as error:
            raise GraphDriverError(str(error)) from error


@caught_by("refusals/mounts-of-a-committed-snapshot")
class CommittedOnesHaveNoMounts(Broken):
    """Mounts of a committed snapshot is an empty list."""

    def mounts(self, key: str) -> Sequence[Mount]:
        return [] if self.stat(key).kind is SnapshotKind.COMMITTED else super().mounts(key)


@caught_by("refusals/commit-of-other-kinds")
class ViewsAreCommitted(Broken):
    """Commit of a view is a success, and does nothing."""

    def commit(self, name: str, key: str, labels: Labels, parent: str = "") -> None:
        try:
            super().commit(name, key, labels, parent)
        except (UnsupportedError, InUseError):
            return


@caught_by("refusals/removed-children-first")
class CommittedOnesStay(Broken):
    """Remove of a committed snapshot is a success, and does nothing."""

    def remove(self, key: str) -> None:
        if self.stat(key).kind is not SnapshotKind.COMMITTED:
            super().remove(key)
