"""Snapshots over a driver: containerd's calls as calls of a driver.

| snapshot | layer |
| --- | --- |
| active | a layer of its own, on the parent's layer |
| committed | the same layer, no longer written to |
| view | its parent's layer, mounted read-only; a layer of its own if it has no parent |

The order of changes: a layer is created before its snapshot is recorded, and removed after the record.
So a kill at any point leaves every snapshot complete or absent. It may leave layers without a snapshot;
the next start and Cleanup remove them.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from graphdriver import returned
from graphdriver.abilities import Mount, Usage
from graphdriver.containerd.filters import fields_of, parse_all
from graphdriver.containerd.metadata import Metadata, Snapshot, SnapshotKind
from graphdriver.containerd.remap import remap_of
from graphdriver.containerd.snapshot_mounts import SnapshotMounts
from graphdriver.containerd.usage import UsageCounter
from graphdriver.driver import ProtoDriver
from graphdriver.errors import (
    GraphDriverError,
    LayerExistsError,
    MalformedRequestError,
    UnsupportedError,
)
from graphdriver.locks import HeldLock
from graphdriver.serving.call_log import current_call
from graphdriver.serving.home_contents import OWN
from graphdriver.serving.served_home import ServedHome

ENGINE: Final = "containerd"
MAX_SIZE: Final = "containerd.io/snapshot/max-size"
"""A limit in bytes, for snapshotters that can set one; ignoring it is no failure (containerd#13520)."""

_log = logging.getLogger(__name__)


class Snapshots:
    """The snapshots of a root directory, as layers of a driver.

    Args:
        driver: keeps the layers.
        root: an absolute path; it is made if it does not exist.
        options: for the driver and the framework: ``sync=none`` lets Commit answer before all is on
            disk, ``adopt=yes`` takes over a directory that holds other files.

    Attributes:
        served: the driver and the root.

    Raises:
        InUseError: another process serves the root.
        UnsupportedError: it belongs to another driver, or to a Docker daemon.
        GraphDriverError: the database is damaged, or missing though layers exist; nothing is changed.
    """

    def __init__(self, driver: ProtoDriver, root: str, options: Sequence[str] = ()) -> None:
        self.served = ServedHome(driver, ENGINE)
        self._driver = driver
        self._warned = ""
        """Why a size limit was ignored last."""
        with contextlib.ExitStack() as held:
            held.callback(self.served.close)
            is_known = self.served.claim(root, options)
            own = os.path.join(self.served.home.path, OWN)
            # Before the driver's init, which sweeps and makes directories: with a damaged database the
            # root must not change.
            self._metadata = Metadata(
                os.path.join(own, "snapshots.db"), _layers_in(root) if is_known else ()
            )
            held.callback(self._metadata.close)
            self._mounts = SnapshotMounts(self.served, os.path.join(own, "got"))
            self.served.init_driver()
            self._mounts.resume(
                {snapshot.number for snapshot in self._metadata.all()},
                self._metadata.uncommitted(),
            )
            self.cleanup()
            self._usage = UsageCounter(self.served, self._metadata)
            held.pop_all()

    def held(self, id: str, parent: str = "", *, exclusive: bool = False) -> HeldLock:
        """Lock a layer for a ``with`` block; the call's lines in the log name it from then on."""
        if call := current_call():
            call.layer = parent if id.startswith("view-") else id
        return self.served.locks.held(id, parent or None, exclusive=exclusive)

    def close(self) -> None:
        """Release the root; mounts and layers stay as they are."""
        self._usage.close()
        self._metadata.close()
        self.served.close()

    # --- containerd's calls -----------------------------------------------------------------------

    def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]:
        """Create an active snapshot; return its mounts.

        Raises:
            LayerExistsError: a snapshot has this key.
            LayerNotFoundError: the parent does not exist.
            MalformedRequestError: the parent is not committed, or a label is wrong.
            UnsupportedError: labels ask for a remap of owners, which is not possible here.
        """
        return self._make(key, SnapshotKind.ACTIVE, parent, labels)

    def view(self, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]:
        """Create a view; return its mounts; errors as for `prepare`."""
        return self._make(key, SnapshotKind.VIEW, parent, labels)

    def _make(
        self, key: str, kind: SnapshotKind, parent: str, labels: Mapping[str, str]
    ) -> Sequence[Mount]:
        _check_key(key)
        remap = remap_of(labels)
        if self._metadata.exists(key):
            raise LayerExistsError(f"the snapshot {key!r} exists already")
        below = self._metadata.stat(parent) if parent else None
        if below and below.kind is not SnapshotKind.COMMITTED:
            raise MalformedRequestError(f"the parent {parent!r} is not committed")
        number = self._metadata.next_number()
        layer = "" if kind is SnapshotKind.VIEW and below else str(number)
        below_layer = below.layer if below else ""
        with self.held(layer or f"view-{number}", below_layer):
            if layer:
                self._create(layer, below_layer, labels)
            try:
                mounts = self._mounts.show(
                    *(number, layer or below_layer, remap),
                    read_only=kind is SnapshotKind.VIEW,
                    is_new=True,
                )
                self._metadata.add(number, key, kind, below, layer, labels)
            except BaseException:
                self._mounts.release(number)
                if layer:
                    self.served.remove(layer)
                raise
        return mounts

    def _create(self, layer: str, below: str, labels: Mapping[str, str]) -> None:
        size = labels.get(MAX_SIZE)
        with self.served.creating(layer, below):
            if size is None or not self._create_limited(layer, below, size):
                self._driver.create(layer, below, "", {})

    def _create_limited(self, layer: str, below: str, size: str) -> bool:
        """Create a layer with a size limit; return False if it cannot have this one."""
        try:
            self._driver.create_read_write(layer, below, "", {"size": size})
        except UnsupportedError as error:
            if str(error) != self._warned:
                _log.warning("ignoring label %s: %s", MAX_SIZE, error)
                self._warned = str(error)
            return False
        return True

    def mounts(self, key: str) -> Sequence[Mount]:
        """Return the mounts of an active snapshot or a view.

        Raises:
            LayerNotFoundError: the snapshot does not exist.
            UnsupportedError: it is committed.
        """
        snapshot = self._metadata.stat(key)
        if snapshot.kind is SnapshotKind.COMMITTED:
            raise UnsupportedError(f"the snapshot {key!r} is committed, and has no mounts")
        with self.held(snapshot.layer or f"view-{snapshot.number}", snapshot.parent_layer):
            return self._mounts.show(
                *(snapshot.number, snapshot.shown_layer, remap_of(snapshot.labels)),
                read_only=snapshot.kind is SnapshotKind.VIEW,
                is_new=False,
            )

    def shown_by(self, mounts: Sequence[Mount]) -> Snapshot | None:
        """Return the snapshot whose layer mounts show, if they are exactly as they were given out."""
        layer = self._mounts.layer_of(mounts) or self._given_before(mounts)
        return self.of_layer(layer) if layer else None

    def _given_before(self, mounts: Sequence[Mount]) -> str:
        """Look among mounts that an earlier process may have given out."""
        for snapshot in self._metadata.uncommitted():
            if not self._mounts.were_given(snapshot.number):
                with contextlib.suppress(GraphDriverError, OSError):
                    self.mounts(snapshot.key)
        return self._mounts.layer_of(mounts)

    def of_layer(self, layer: str) -> Snapshot | None:
        """Return the snapshot that has a layer of its own of this name, if there is one."""
        return self._metadata.numbered(int(layer))

    def commit(self, name: str, key: str, labels: Mapping[str, str], parent: str = "") -> None:
        """Commit an active snapshot; it is on disk when this returns, unless with ``sync=none``.

        Args:
            name: its key from now on.
            key: the snapshot.
            labels: its labels from now on.
            parent: the parent of a snapshot that was prepared without one.

        Raises:
            LayerNotFoundError: the snapshot, or its parent, does not exist.
            LayerExistsError: another snapshot has this name.
            UnsupportedError: the snapshot is a view, or committed already, or cannot get a parent.
            MalformedRequestError: it has another parent, or the parent is not committed.
            BadArchiveError: it has a hard link to a file that the parent does not have.
        """
        _check_key(name)
        snapshot = self._metadata.stat(key)
        if snapshot.kind is not SnapshotKind.ACTIVE:
            raise UnsupportedError(
                f"the snapshot {key!r} is {_named(snapshot.kind)}, and not active"
            )
        if self._metadata.exists(name):
            raise LayerExistsError(f"the snapshot {name!r} exists already")
        below = self._later_parent(snapshot, parent)
        with self.held(snapshot.layer, below.layer if below else ""):
            self.served.expect_finished(snapshot.layer, *([below.layer] if below else []))
            # In this order: after a crash, each snapshot that the database calls committed is on disk.
            if not self._settle(snapshot, below):
                self.served.sync()
            self._metadata.commit(snapshot, name, labels, below)
            self.served.layers.applied(snapshot.layer)
            self._mounts.committed(snapshot.number)
        self._usage.count_later(name)  # Commit must not wait for a walk through the layer

    def _later_parent(self, snapshot: Snapshot, parent: str) -> Snapshot | None:
        """Return the parent that a commit gives to a snapshot; None if it gives none."""
        if not parent or parent == snapshot.parent:
            return None
        if snapshot.parent:
            raise MalformedRequestError(
                f"the snapshot {snapshot.key!r} has the parent {snapshot.parent!r}, not {parent!r}"
            )
        below = self._metadata.stat(parent)
        if below.kind is not SnapshotKind.COMMITTED:
            raise MalformedRequestError(f"the parent {parent!r} is not committed")
        return below

    def _settle(self, snapshot: Snapshot, below: Snapshot | None) -> bool:
        """Settle what depends on the layers below, if that is open; return whether it was."""
        if snapshot.parent:
            return False
        later = self.served.takes_parent_later
        if later is None or not returned.truth(later.awaits_parent(snapshot.layer)):
            if below:
                raise _cannot_get_parent(snapshot.key, self.served.driver_name, later is not None)
            return False
        with self.served.settling(snapshot.layer):
            later.settle(snapshot.layer, below.layer if below else "")
        if below:
            self.served.layers.took_parent(snapshot.layer, below.layer)
        return True

    def remove(self, key: str) -> None:
        """Remove a snapshot; if the driver cannot remove its layer now, `cleanup` tries again.

        Raises:
            LayerNotFoundError: the snapshot does not exist.
            InUseError: it is the parent of another snapshot.
        """
        snapshot = self._metadata.stat(key)
        if not snapshot.layer:
            with self.held(f"view-{snapshot.number}", snapshot.parent_layer):
                self._metadata.remove(snapshot)
                self._mounts.release(snapshot.number)
            return
        with self.held(snapshot.layer, exclusive=True):
            self._metadata.remove(snapshot)
            self._mounts.release(snapshot.number)
            self._remove_layer(snapshot.layer)

    def _remove_layer(self, layer: str) -> bool:
        """Remove a layer without a snapshot, and log an error; return whether it existed."""
        try:
            existed = returned.truth(self._driver.exists(layer))
            self.served.remove(layer)
        except (Exception, SystemExit):
            _log.exception("the layer %s cannot be removed; Cleanup tries again", layer)
            return False
        self._metadata.forget(layer)
        return existed

    def stat(self, key: str) -> Snapshot:
        """Return a snapshot.

        Raises:
            LayerNotFoundError: the snapshot does not exist.
        """
        return self._metadata.stat(key)

    def update(
        self, key: str, labels: Mapping[str, str], paths: Sequence[str] | None = None
    ) -> Snapshot:
        """Change a snapshot's labels.

        Args:
            key: the snapshot.
            labels: the new labels.
            paths: ``labels`` for all labels, ``labels.KEY`` for a single one; all labels by default.

        Raises:
            LayerNotFoundError: the snapshot does not exist.
            MalformedRequestError: a path names something else than labels.
        """
        snapshot = self._metadata.stat(key)
        new = dict(snapshot.labels)
        for path in paths or ("labels",):
            if path == "labels":
                new = dict(labels)
            elif path.startswith("labels."):
                label = path.removeprefix("labels.")
                new.pop(label, None)
                if label in labels:
                    new[label] = labels[label]
            else:
                raise MalformedRequestError(f"{path!r} of a snapshot cannot be changed")
        return self._metadata.label(snapshot, new)

    def find(self, filters: Iterable[str]) -> list[Snapshot]:
        """Return the snapshots that match any of the filters; without filters, all snapshots.

        Raises:
            MalformedRequestError: a filter is malformed.
        """
        passes = parse_all(filters)
        return [
            snapshot
            for snapshot in self._metadata.all()
            if passes(
                fields_of(snapshot.key, snapshot.parent, _named(snapshot.kind), snapshot.labels)
            )
        ]

    def usage(self, key: str) -> Usage:
        """Return the disk usage of a snapshot, without its parents.

        Raises:
            LayerNotFoundError: the snapshot does not exist.
        """
        snapshot = self._metadata.stat(key)
        if snapshot.usage:
            return snapshot.usage
        if not snapshot.layer:
            return Usage(0, 0)
        with self.held(snapshot.layer):
            return self._usage.count(snapshot.layer)

    def cleanup(self) -> list[str]:
        """Remove the layers that belong to no snapshot; return them."""
        freed = []
        for layer in self._metadata.orphans():
            with self.held(layer, exclusive=True):
                # Again under the lock: it may have become a snapshot's layer meanwhile.
                if self.of_layer(layer) is None and self._remove_layer(layer):
                    freed.append(layer)
        self._metadata.keep_reserve()  # the removals may have made room
        if freed:
            _log.info(
                "removed %d layers that belonged to no snapshot: %s", len(freed), ", ".join(freed)
            )
        return freed


def _layers_in(root: str) -> list[str]:
    """Return the entries of a root that may be layers: no files of ours, no empty directories."""
    with os.scandir(root) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and entry.name != "lost+found"
            and (entry.name.isdecimal() or not _is_empty(entry))
        )


def _is_empty(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and not os.listdir(entry.path)


def _cannot_get_parent(key: str, driver: str, is_able: bool) -> UnsupportedError:
    if is_able:
        # containerd's own differ writes the whiteouts of a layer without a parent as files.
        return UnsupportedError(
            f"the snapshot {key!r} cannot get a parent: it is not empty, and was not filled by the"
            " diff service of this snapshotter",
            hint="set the diff service as the differ in containerd's configuration, or leave rebase"
            " out of the capabilities; see graphdriver snapshotter --print-config",
        )
    return UnsupportedError(
        f"the snapshot {key!r} cannot get a parent: the driver {driver} creates each layer on its"
        " parent",
        hint="leave rebase out of the capabilities in containerd's configuration",
    )


def _check_key(key: str) -> None:
    if not key:
        raise MalformedRequestError("the key is empty")


def _named(kind: SnapshotKind) -> str:
    return kind.name.lower()
