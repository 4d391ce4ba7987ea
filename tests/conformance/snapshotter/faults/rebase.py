"""Faults in how a snapshot gets its parent with Commit."""

from __future__ import annotations

from dataclasses import replace

from graphdriver.containerd.metadata import Snapshot
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.errors import BadArchiveError, GraphDriverError
from graphdriver.layer.overlay.parentless import Unsettled
from graphdriver.linux import xattr
from tests.conformance.snapshotter.faults.fault import Broken, Labels, caught_by


class Able(Broken):
    """Snapshots that can get a parent with Commit."""

    good = Overlay2Driver


class Forgetful(Overlay2Driver):
    """A driver that forgets some of what was open until the parent was known."""

    def settle(self, id: str, parent: str) -> None:
        self._layers.note_unsettled(id, self.known(self._layers.unsettled(id)))
        super().settle(id, parent)

    def known(self, unsettled: Unsettled) -> Unsettled:
        raise NotImplementedError


@caught_by("rebase/parent-comes-with-commit")
class TheParentIsIgnored(Able):
    """Commit ignores the parent."""

    def commit(self, name: str, key: str, labels: Labels, parent: str = "") -> None:
        super().commit(name, key, labels)


@caught_by("rebase/whiteouts-delete-below")
class NothingIsBelow(Able):
    """A layer drops its whiteouts, since there was nothing to delete."""

    class good(Overlay2Driver):  # noqa: N801
        def settle(self, id: str, parent: str) -> None:
            super().settle(id, "")
            if parent:
                self._layers.take_parent(id, parent)


@caught_by("rebase/unnamed-directories-are-as-below")
class DirectoriesAreNew(Able):
    """Directories that the layer does not name stay as they were made."""

    class good(Forgetful):  # noqa: N801
        def known(self, unsettled: Unsettled) -> Unsettled:
            return replace(unsettled, directories=set())


@caught_by("rebase/hard-links-lead-below")
class LinksAreLeftOut(Able):
    """Hard links into the layers below are left out."""

    class good(Forgetful):  # noqa: N801
        def known(self, unsettled: Unsettled) -> Unsettled:
            return replace(unsettled, links={})


@caught_by("rebase/opaque-root-hides-below")
class TheRootHidesNothing(Able):
    """The opaque mark of a layer's root is lost."""

    class good(Overlay2Driver):  # noqa: N801
        def settle(self, id: str, parent: str) -> None:
            with self._layers.opened(id) as upper:
                xattr.remove(upper, self._layers.marks.opaque)
            super().settle(id, parent)


@caught_by("rebase/missing-link-target-is-refused")
class LinksToNothingAreFine(Able):
    """A hard link to nothing is no error."""

    def commit(self, name: str, key: str, labels: Labels, parent: str = "") -> None:
        try:
            super().commit(name, key, labels, parent)
        except BadArchiveError:
            return


@caught_by("rebase/written-by-others-is-refused")
class AnythingGetsAParent(Able):
    """A parent is given whatever wrote to the snapshot."""

    class good(Overlay2Driver):  # noqa: N801
        def awaits_parent(self, id: str) -> bool:
            self._layers.note_unsettled(id, Unsettled())
            return True


@caught_by("rebase/wrong-parents-are-refused")
class WrongParentsAreNone(Able):
    """A parent that cannot be one is none."""

    def _later_parent(self, snapshot: Snapshot, parent: str) -> Snapshot | None:
        try:
            return super()._later_parent(snapshot, parent)
        except GraphDriverError:
            return None
