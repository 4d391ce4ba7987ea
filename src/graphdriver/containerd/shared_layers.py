"""Layers that a pull need not fetch from its registry, since a shared store has them.

containerd names the chain ID of the layer that a snapshot is for, in the label `REF`. An answer of
"exists already" means to it that the layer is here: it looks for a committed snapshot with this label
and this parent, and neither fetches nor unpacks the layer (containerd: remote snapshotters). It
checks no digest of such a layer. `graphdriver.shared` does.

Whatever is wrong with the store is a miss, and containerd pulls the layer as it always does. So it is
with a store that is away: it is used as soon as it is there.

A layer is fetched, or read *in place* where that was asked for: then its tar stays in the store
(`graphdriver.in_place`). What cannot be read in place is fetched.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from graphdriver.abilities import Mount, ability
from graphdriver.containerd.filling import Filler
from graphdriver.containerd.metadata import Snapshot, SnapshotKind
from graphdriver.containerd.publishing import Publisher
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.driver import ProtoDriver
from graphdriver.errors import (
    GraphDriverError,
    LayerExistsError,
    LayerNotFoundError,
    UnsupportedError,
)
from graphdriver.in_place import ReadsInPlace, SharedImage
from graphdriver.serving.home_contents import OWN
from graphdriver.shared.availability import Availability
from graphdriver.shared.in_place import InPlace
from graphdriver.shared.keys import Link, is_digest
from graphdriver.shared.layers import FoundLayer, SharedLayers
from graphdriver.shared.store import AwayError, DeniedError, NotStoredError
from graphdriver.shared.waiting import STALLED, Calls, Fetch

REF: Final = "containerd.io/snapshot.ref"
"""The chain ID of the layer that a snapshot is for."""

DIFF_ID: Final = "containerd.io/snapshot/diff-id"
"""Its diff ID; from containerd 2.3 on."""

PARENT: Final = "containerd.io/snapshot/parent-chain-id"
"""The chain ID of the layers below it, which may not be here yet; from containerd 2.3 on."""

WAIT: Final = 2.0
"""How long a Prepare waits for the first bytes of a layer, in seconds: containerd holds a lock."""

_log = logging.getLogger(__name__)


class SharedSnapshots(Snapshots):
    """Snapshots whose layers are fetched from a shared store, if it has them.

    Args:
        driver: keeps the layers.
        root: an absolute path.
        options: for the driver and the framework, as of `Snapshots`.
        shared: the layers in the store.
        wait: how long to wait for the first bytes of a layer, in seconds.
        publishes: whether layers that are pulled from elsewhere are put into the store.
        in_place: whether the tars of layers stay in the store, which is a directory.

    Raises:
        UnsupportedError: also if the driver cannot read layers in place.
    """

    def __init__(
        self,
        driver: ProtoDriver,
        root: str,
        options: Sequence[str] = (),
        *,
        shared: SharedLayers,
        wait: float = WAIT,
        publishes: bool = False,
        in_place: bool = False,
    ) -> None:
        reads_in_place = ability(driver, ReadsInPlace) if in_place else None
        store = shared.store.in_place
        if in_place and not reads_in_place:
            raise UnsupportedError(
                f"read layers in place: the driver {driver.driver_name} cannot do that",
                hint="use the driver erofs, or leave out --in-place",
            )
        self._publisher: Publisher | None = None
        self._in_place: InPlace | None = None
        super().__init__(driver, root, options)  # which may remove layers
        self._shared = shared
        self._calls = Calls(shared.store.address)
        self._wait = wait
        self._filler = Filler(self.served)
        self._warned_of_rebase = False
        self._was_denied_leases = False
        try:
            self._availability = Availability(shared.store)
            self._availability.ask_once()
            if publishes:
                self._publisher = Publisher(self.served, shared, self._availability)
                for layer in self._publisher.unpublished.layers():
                    self._publish(layer, self._publisher)
            if reads_in_place and store:
                self._in_place = InPlace(
                    reads_in_place,
                    store,
                    self._own_directory,
                    self._found_wrong,
                    lambda layer: f"layer {layer}, of {self._showing(layer)},",
                )
                self._in_place.start()
        except BaseException:  # no thread can be started
            self.close()
            raise

    def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]:
        """Create an active snapshot; return its mounts.

        Raises:
            LayerExistsError: also if the label `REF` names a layer that is here now.
            GraphDriverError: as for `Snapshots.prepare`.
        """
        chain_id = labels.get(REF, "")
        if not parent and labels.get(PARENT):
            self._warn_of_rebase()
        elif is_digest(chain_id) and self._is_here_now(key, parent, labels, chain_id):
            raise LayerExistsError(f"the layer {chain_id} is here: no need to fetch it")
        return super().prepare(key, parent, labels)

    def commit(self, name: str, key: str, labels: Mapping[str, str], parent: str = "") -> None:
        """Commit an active snapshot; see `Snapshots.commit`."""
        layer = ""
        if self._publisher and is_digest(_chain_id_in(name, labels)):
            layer = self.stat(key).layer
            # First: the commit waits until this is on disk, too.
            self._publisher.unpublished.add(layer)
        super().commit(name, key, labels, parent)
        if self._publisher and layer:
            self._publish(layer, self._publisher)

    def close(self) -> None:
        """Release the root; mounts and layers stay as they are."""
        if self._publisher:
            self._publisher.close()
        if self._in_place:
            self._in_place.close()
        super().close()

    def _warn_of_rebase(self) -> None:
        """Warn, once, that layers are prepared without their parents."""
        # containerd looks for a layer that exists already by its parent, and would find none below it.
        if not self._warned_of_rebase:
            self._warned_of_rebase = True
            _log.warning(
                "containerd unpacks the layers of an image at the same time, and takes only the first"
                " one from the store; leave rebase out of the capabilities in its configuration"
            )

    def _remove_layer(self, layer: str) -> bool:
        existed = super()._remove_layer(layer)
        if self._in_place:
            self._in_place.removed(layer)
        if self._publisher:
            self._publisher.unpublished.remove(layer)
        return existed

    def _publish(self, layer: str, publisher: Publisher) -> None:
        """Publish the layer of a committed snapshot soon; forget what is none."""
        snapshot = self.of_layer(layer)
        if snapshot and (chain_id := _chain_id_of(snapshot)):
            with contextlib.suppress(LayerNotFoundError):  # the parent: both were removed at once
                below = self._chain_id_below(snapshot.parent)
                if below is not None:
                    publisher.publish(layer, below, chain_id)
                    return
        publisher.unpublished.remove(layer)

    def _is_here_now(self, key: str, parent: str, labels: Mapping[str, str], chain_id: str) -> bool:
        """Fetch a layer, unless it is here; return whether it is; log what went wrong."""
        # Pulls of one layer at a time: the second one finds what the first one fetched.
        with self.served.locks.held(f"shared-{chain_id}", exclusive=True):
            if self._has(parent, chain_id):
                return True
            if not self._availability.is_worth_asking:
                return False
            try:
                below = self._chain_id_below(parent)
                if below is None:
                    return False
                wanted = _Wanted(self._shared, chain_id, below, labels.get(DIFF_ID, ""))
                return self._takes(key, parent, labels, wanted)
            except AwayError:  # the log has it
                return False
            except (GraphDriverError, OSError) as error:
                _log.warning("the layer %s is not taken from the store: %s", chain_id, error)
                return False
            except Exception:  # whatever a store can make fail here, the pull goes on without it
                _log.exception("the layer %s is not taken from the store", chain_id)
                return False

    def _takes(self, key: str, parent: str, labels: Mapping[str, str], wanted: _Wanted) -> bool:
        """Make a snapshot of a layer in the store; return whether the store has the layer.

        Raises:
            AwayError: the store does not answer.
            GraphDriverError, OSError: something else failed.
        """
        end = time.monotonic() + self._wait
        with self._availability.asking():
            layer = self._calls.answer_within(self._wait, wanted.find)
        if layer is None:
            return False
        if self._in_place:
            if self._shows(key, parent, labels, layer, self._in_place, end):
                return True
            end = time.monotonic() + self._wait
        with contextlib.closing(Fetch(self._shared, layer, self._calls)) as fetch:
            with self._availability.asking():
                has_begun = fetch.begins_within(max(end - time.monotonic(), 0))
            if has_begun:
                fill = functools.partial(self._filler.fill, tar=fetch)
                self._make_shared(key, parent, labels, fill)
            return has_begun

    def _has(self, parent: str, chain_id: str) -> bool:
        return any(
            one.parent == parent and one.kind is SnapshotKind.COMMITTED
            for one in self._metadata.labelled(REF, chain_id)
        )

    def _chain_id_below(self, parent: str) -> str | None:
        """Return the chain ID of a parent's layers; ``""`` for no parent; None if it is not known."""
        return _chain_id_of(self.stat(parent)) if parent else ""

    def _shows(
        self,
        key: str,
        parent: str,
        labels: Mapping[str, str],
        layer: FoundLayer,
        in_place: InPlace,
        end: float,
    ) -> bool:
        """Make a snapshot that shows a layer in place, if that is possible; return whether it was.

        The store gives a lease until ``end``, by the monotonic clock.

        Raises:
            TimeoutError: the store does not answer: then it would not for fetching either.
        """
        try:
            with in_place.kept(layer):
                left = max(end - time.monotonic(), 0)
                image = self._calls.answer_within(left, lambda: in_place.image(layer))
                headers = self._calls.answer_within(STALLED, lambda: self._shared.headers(layer))
                image = replace(image, headers=headers)
                fill = functools.partial(self._fill_in_place, driver=in_place.driver, image=image)
                self._make_shared(key, parent, labels, fill)
        except TimeoutError:
            raise
        except (GraphDriverError, NotStoredError, OSError) as error:
            is_known = isinstance(error, DeniedError) and self._was_denied_leases
            self._was_denied_leases |= isinstance(error, DeniedError)
            level = logging.INFO if is_known else logging.WARNING
            _log.log(level, "the layer %s is not read in place: %s", layer.link.chain_id, error)
            return False
        in_place.prove_soon()
        return True

    def _fill_in_place(
        self, layer: str, below: str, driver: ReadsInPlace, image: SharedImage
    ) -> None:
        self.served.created.discard(layer)
        with self.served.settling(layer):
            driver.apply_in_place(layer, below, image)

    def _own_directory(self) -> str | None:
        home = self.served.initialised_home
        return os.path.join(home.path, OWN) if home else None

    def _found_wrong(self, layer: str, wrong: str) -> None:
        """Tell about a layer whose tar in the store is not the one that it was taken for."""
        _log.error(
            "a layer that is read in place is wrong: %s. Nothing more is mounted with it. These"
            " snapshots show it; end their containers, remove the image and pull it again: %s",
            wrong,
            self._showing(layer),
            extra={"graphdriver": {"layer": layer}},
        )

    def _showing(self, layer: str) -> str:
        """Return the keys of the snapshots that show a layer, in quotation marks."""
        snapshot = self.of_layer(layer)
        shown = [snapshot.key] if snapshot else []
        upon = collections.defaultdict[str, list[str]](list)
        for one in self._metadata.all():
            upon[one.parent].append(one.key)
        for key in shown:  # it grows meanwhile
            shown += upon[key]
        return ", ".join(map(repr, shown))

    def _make_shared(
        self,
        key: str,
        parent: str,
        labels: Mapping[str, str],
        fill: Callable[[str, str], None],
    ) -> None:
        """Make a committed snapshot of a layer; nothing is left of it if that fails.

        Args:
            key: the one that containerd asks for.
            parent: its parent.
            labels: its labels.
            fill: fills a locked layer, given its parent.
        """
        served = self.served
        # In the namespace of the key. containerd does not look for the first, without `REF`: a kill
        # leaves it until containerd's garbage collection.
        making, made = f"{key} (fetched)", f"{key} (shared)"
        super().prepare(making, parent, {name: labels[name] for name in labels.keys() - {REF}})
        try:
            snapshot = self.stat(making)
            layer, below = snapshot.layer, snapshot.parent_layer
            with served.locks.held(layer, below or None, exclusive=True):
                served.expect_fillable(layer, below)
                fill(layer, below)
            super().commit(made, making, labels)
        except BaseException:
            with contextlib.suppress(GraphDriverError):
                self.remove(making)
            raise


def _chain_id_of(snapshot: Snapshot) -> str | None:
    """Return the chain ID of a committed snapshot's layers; None if it is not known."""
    chain_id = _chain_id_in(snapshot.key, snapshot.labels)
    is_known = snapshot.kind is SnapshotKind.COMMITTED and is_digest(chain_id)
    return chain_id if is_known else None


def _chain_id_in(key: str, labels: Mapping[str, str]) -> str:
    """Return the chain ID that a snapshot is named by; another text if it is named by none."""
    # A layer that containerd has unpacked is named by it, behind its namespace and a number.
    return labels.get(REF) or key.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A layer that is looked for in a store.

    Attributes:
        shared: the layers in the store.
        chain_id: the layer's chain ID.
        below: that of the layers below it.
        diff_id: its diff ID; ``""`` if the store has to tell it.
    """

    shared: SharedLayers
    chain_id: str
    below: str
    diff_id: str

    def find(self) -> FoundLayer | None:
        """Return the layer, if the store has it.

        Raises:
            OSError: the store does not answer.
        """
        if is_digest(self.diff_id):
            link: Link | None = Link(self.below, self.diff_id)
        else:
            link = self.shared.link_of(self.chain_id)
        if link is None or (link.chain_id, link.parent) != (self.chain_id, self.below):
            return None
        return self.shared.find(link)
