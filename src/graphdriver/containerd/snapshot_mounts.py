"""The mounts of snapshots: how they are named or made, and what must stay mounted for them.

If the driver names its mounts, they are the answer. Otherwise the answer is a bind mount of the
directory that Get returns; the Put follows when the snapshot is removed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from graphdriver import returned
from graphdriver.abilities import Mount
from graphdriver.containerd.diff.given_mounts import GivenMounts
from graphdriver.containerd.held_gets import HeldGets
from graphdriver.containerd.metadata import Snapshot
from graphdriver.containerd.remap import Remap
from graphdriver.containerd.visibility import warn_unless_visible
from graphdriver.errors import GraphDriverError
from graphdriver.serving.served_home import ServedHome

_log = logging.getLogger(__name__)


class SnapshotMounts:
    """The mounts of the snapshots of a root.

    Args:
        served: the driver and the root, which is claimed.
        directory: the directory for the records of Gets; it is made with the first one.
    """

    def __init__(self, served: ServedHome, directory: str) -> None:
        self._served = served
        self._given = GivenMounts()
        self._gets = HeldGets(served.driver, directory, kept=served.counts_gets is not None)
        self._uses: dict[int, str] = {}
        """The layer that each uncommitted snapshot shows, for the record of it."""

    def resume(self, numbers: AbstractSet[int], uncommitted: Iterable[Snapshot]) -> None:
        """Tell the driver, at a start, which layers' mounts are in use, or can be made at any time.

        Args:
            numbers: of all snapshots; Gets of others end.
            uncommitted: those that have mounts.
        """
        self._gets.release_all_but(numbers)
        if self._served.keeps_mounts:
            warn_unless_visible(self._served.home.path)
        for snapshot in uncommitted:
            self._use(snapshot.number, snapshot.shown_layer)
            try:
                self._keep(snapshot.number, snapshot.shown_layer)
            except (GraphDriverError, OSError) as error:
                _log.warning("the snapshot %r cannot be mounted: %s", snapshot.key, error)

    def show(
        self, number: int, layer: str, remap: Remap | None, *, read_only: bool, is_new: bool
    ) -> Sequence[Mount]:
        """Return the mounts that show a layer for a snapshot, and note that they are given out.

        Args:
            number: the snapshot's.
            layer: the layer.
            remap: how the owners of its files are changed, if they are.
            read_only: nothing will be written to it.
            is_new: whether the snapshot is just being made.

        Raises:
            GraphDriverError, OSError: the driver cannot show it; call `release` then, if ``is_new``.
        """
        self._use(number, layer)
        self._served.layers.got(layer, references=0)
        if self._served.names_mounts:
            self._keep(number, layer)
            mounts = returned.mounts(self._served.names_mounts.mounts(layer, read_only=read_only))
        else:
            path = self._gets.hold(number, layer)
            mounts = (Mount("bind", path, ("ro" if read_only else "rw", "rbind")),)
        if remap:
            mounts = tuple(remap.applied(mount, is_new=is_new) for mount in mounts)
        self._given.add(number, layer, mounts)
        return mounts

    def were_given(self, number: int) -> bool:
        """Tell whether mounts of a snapshot were given out by this process."""
        return self._given.knows(number)

    def layer_of(self, mounts: Sequence[Mount]) -> str:
        """Return the layer that mounts show; ``""`` if they were not given out."""
        return self._given.layer_of(mounts)

    def committed(self, number: int) -> None:
        """Note that a snapshot was committed: it has no mounts any more."""
        self._end_use(number)
        self._given.forget(number)

    def release(self, number: int) -> None:
        """End what a snapshot that is removed holds of its layer."""
        self._gets.release(number)
        self.committed(number)

    def _keep(self, number: int, layer: str) -> None:
        """Keep what a snapshot's mounts need, until `_end_use`."""
        if self._served.keeps_mounts:
            self._served.keeps_mounts.keep_mounts(layer, str(number))

    def _use(self, number: int, layer: str) -> None:
        """Record that a snapshot's mounts show a layer, until `_end_use`."""
        if number not in self._uses:
            self._uses[number] = layer
            self._served.layers.held(layer)

    def _end_use(self, number: int) -> None:
        """End the use of a snapshot's mounts; log failures."""
        if layer := self._uses.pop(number, ""):
            self._served.layers.put(layer)
        if self._served.keeps_mounts is None:
            return
        try:
            self._served.keeps_mounts.release_mounts(str(number))
        except (Exception, SystemExit):
            _log.exception("what the mounts of snapshot %d need cannot be released", number)
