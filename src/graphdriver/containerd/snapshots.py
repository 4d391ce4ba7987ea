"""Snapshots over a driver: what containerd's words mean for its layers.

| snapshot | layer |
| --- | --- |
| active | one of its own, upon the parent's |
| committed | the same layer, written to no more |
| view | none: its parent's layer, mounted read-only; one of its own if it has no parent |

A driver that names its mounts is asked for them. Of any other the layer is got, and containerd is told
to bind that folder; it is put when the snapshot is removed.

The order, in which a kill at any point leaves every snapshot whole or absent: the layer is made, then
the snapshot noted; the snapshot is forgotten, then the layer removed. What that may leave is removed at
the next start, and by Cleanup.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from graphdriver import returned
from graphdriver.containerd.filters import fields_of, parse_all
from graphdriver.containerd.held_gets import HeldGets
from graphdriver.containerd.metadata import Metadata, Snapshot, SnapshotKind
from graphdriver.containerd.remap import remap_of
from graphdriver.containerd.usage import UsageCounter
from graphdriver.driver import Mount, ProtoDriver, Usage
from graphdriver.errors import LayerExistsError, MalformedRequestError, UnsupportedError
from graphdriver.serving.served_home import ServedHome

ENGINE: Final = "containerd"
MAX_SIZE: Final = "containerd.io/snapshot/max-size"

_log = logging.getLogger(__name__)


class Snapshots:
    """The snapshots of a root, kept by a driver.

    Args:
        driver: keeps the layers.
        root: an absolute path; it is made if it is not there.
        options: for the driver and the framework: ``sync=none`` lets Commit answer before all is on
            disk, ``adopt=yes`` takes over a directory that holds other files.

    Attributes:
        served: the driver in its root.

    Raises:
        InUseError: another process serves the root.
        UnsupportedError: it belongs to another driver, or to a Docker daemon.
        GraphDriverError: the database is damaged, or missing beside layers; nothing is changed.
    """

    def __init__(self, driver: ProtoDriver, root: str, options: Sequence[str] = ()) -> None:
        self.served = ServedHome(driver, ENGINE)
        self._driver = driver
        self._locks = self.served.locks
        self._warned = False
        with contextlib.ExitStack() as held:
            held.callback(self.served.close)
            is_known = self.served.claim(root, options)
            own = os.path.join(self.served.home.path, ".graphdriver")
            # Before the driver, which sweeps and makes directories: a damaged root stays as it is.
            self._metadata = Metadata(
                os.path.join(own, "snapshots.db"), _layers_in(root) if is_known else ()
            )
            held.callback(self._metadata.close)
            self._gets = HeldGets(
                driver, os.path.join(own, "got"), kept=self.served.counts_gets is not None
            )
            self.served.init_driver()
            self._gets.release_all_but({one.number for one in self._metadata.all()})
            self.cleanup()
            self._usage = UsageCounter(self.served, self._metadata)
            held.pop_all()

    def close(self) -> None:
        """Release the root; mounts and layers stay as they are."""
        self._usage.close()
        self._metadata.close()
        self.served.close()

    # --- what containerd asks for -----------------------------------------------------------------

    def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]:
        """Make an active snapshot.

        Raises:
            LayerExistsError: there is one of that key.
            LayerNotFoundError: there is no such parent.
            MalformedRequestError: the parent is not committed, or a label is wrong.
            UnsupportedError: labels ask for other owners, which cannot be shown here.
        """
        return self._make(key, SnapshotKind.ACTIVE, parent, labels)

    def view(self, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]:
        """Make a view; errors as of `prepare`."""
        return self._make(key, SnapshotKind.VIEW, parent, labels)

    def _make(
        self, key: str, kind: SnapshotKind, parent: str, labels: Mapping[str, str]
    ) -> Sequence[Mount]:
        _check_key(key)
        remap = remap_of(labels)
        if self._metadata.exists(key):
            raise LayerExistsError(f"there is a snapshot {key!r} already")
        below = self._metadata.stat(parent) if parent else None
        if below and below.kind is not SnapshotKind.COMMITTED:
            raise MalformedRequestError(f"the parent {parent!r} is not committed")
        number = self._metadata.next_number()
        layer = "" if kind is SnapshotKind.VIEW and below else str(number)
        below_layer = below.layer if below else ""
        with self._locks.held(layer or f"view-{number}", below_layer or None):
            if layer:
                self._create(layer, below_layer, labels)
            try:
                mounts = self._mounts(number, layer or below_layer, kind)
                if remap:
                    mounts = [remap.shown(one, is_new=True) for one in mounts]
                self._metadata.add(number, key, kind, below, layer, labels)
            except BaseException:
                self._gets.release(number)
                if layer:
                    self.served.remove(layer)
                raise
        return mounts

    def _create(self, layer: str, below: str, labels: Mapping[str, str]) -> None:
        size = labels.get(MAX_SIZE)
        if size is None:
            with self.served.creating(layer, below):
                self._driver.create(layer, below, "", {})
            return
        try:
            with self.served.creating(layer, below):
                self._driver.create_read_write(layer, below, "", {"size": size})
        except UnsupportedError as error:
            if not self._warned:
                _log.warning("%s is not heeded: %s", MAX_SIZE, error)
                self._warned = True
            with self.served.creating(layer, below):
                self._driver.create(layer, below, "", {})

    def mounts(self, key: str) -> Sequence[Mount]:
        """Return how to mount an active snapshot or a view.

        Raises:
            LayerNotFoundError: there is no such snapshot.
            UnsupportedError: it is committed.
        """
        one = self._metadata.stat(key)
        if one.kind is SnapshotKind.COMMITTED:
            raise UnsupportedError(f"the snapshot {key!r} is committed, and not mounted")
        with self._locks.held(one.layer or f"view-{one.number}", one.parent_layer or None):
            mounts = self._mounts(one.number, one.layer or one.parent_layer, one.kind)
            remap = remap_of(one.labels)
            return [remap.shown(mount, is_new=False) for mount in mounts] if remap else mounts

    def _mounts(self, number: int, layer: str, kind: SnapshotKind) -> Sequence[Mount]:
        read_only = kind is SnapshotKind.VIEW
        if self.served.names_mounts:
            return returned.mounts(self.served.names_mounts.mounts(layer, read_only=read_only))
        path = self._gets.hold(number, layer)
        return (Mount("bind", path, ("ro" if read_only else "rw", "rbind")),)

    def commit(self, name: str, key: str, labels: Mapping[str, str]) -> None:
        """Make an active snapshot a committed one, on disk when this returns; nothing is walked.

        Raises:
            LayerNotFoundError: there is no such snapshot.
            LayerExistsError: there is one of that name.
            UnsupportedError: it is a view, or committed already.
        """
        _check_key(name)
        one = self._metadata.stat(key)
        if one.kind is not SnapshotKind.ACTIVE:
            raise UnsupportedError(f"the snapshot {key!r} is {_named(one.kind)}, and not active")
        if self._metadata.exists(name):
            raise LayerExistsError(f"there is a snapshot {name!r} already")
        with self._locks.held(one.layer):
            self.served.sync()
            self._metadata.commit(one, name, labels)
        self._usage.count_later(name)

    def remove(self, key: str) -> None:
        """End a snapshot. What the driver cannot remove now is tried again by `cleanup`.

        Raises:
            LayerNotFoundError: there is no such snapshot.
            InUseError: others stand on it.
        """
        one = self._metadata.stat(key)
        if not one.layer:
            with self._locks.held(f"view-{one.number}", one.parent_layer):
                self._metadata.remove(one)
                self._gets.release(one.number)
            return
        with self._locks.held(one.layer, exclusive=True):
            self._metadata.remove(one)
            self._gets.release(one.number)
            self._end(one.layer)

    def _end(self, layer: str) -> bool:
        """Remove a doomed layer; one that cannot be removed holds up nobody."""
        try:
            existed = returned.truth(self._driver.exists(layer))
            self.served.remove(layer)
        except Exception:
            _log.exception("the layer %s cannot be removed; Cleanup tries again", layer)
            return False
        self._metadata.forget(layer)
        return existed

    def stat(self, key: str) -> Snapshot:
        """Return a snapshot.

        Raises:
            LayerNotFoundError: there is none of that key.
        """
        return self._metadata.stat(key)

    def update(
        self, key: str, labels: Mapping[str, str], paths: Sequence[str] | None = None
    ) -> Snapshot:
        """Change a snapshot's labels.

        Args:
            key: which one.
            labels: the new ones.
            paths: what to change: ``labels``, or ``labels.KEY`` for single ones; all labels if none.

        Raises:
            LayerNotFoundError: there is no such snapshot.
            MalformedRequestError: something else than labels is to be changed.
        """
        one = self._metadata.stat(key)
        new = dict(one.labels)
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
        return self._metadata.label(one, new)

    def find(self, filters: Iterable[str]) -> list[Snapshot]:
        """Return the snapshots that any of the filters lets pass; all of them if there is none.

        Raises:
            MalformedRequestError: something is no filter.
        """
        passes = parse_all(filters)
        return [
            one
            for one in self._metadata.all()
            if passes(fields_of(one.key, one.parent, _named(one.kind), one.labels))
        ]

    def usage(self, key: str) -> Usage:
        """Return what a snapshot takes by itself.

        Raises:
            LayerNotFoundError: there is no such snapshot.
        """
        one = self._metadata.stat(key)
        if one.usage:
            return one.usage
        if not one.layer:
            return Usage(0, 0)
        with self._locks.held(one.layer):
            return self._usage.count(one.layer)

    def cleanup(self) -> list[str]:
        """Remove the layers that no snapshot owns; return them."""
        freed = []
        for layer in self._metadata.orphans():
            with self._locks.held(layer, exclusive=True):
                if layer in self._metadata.orphans() and self._end(layer):
                    freed.append(layer)
        self._metadata.keep_reserve()  # what was removed before may have made room
        if freed:
            _log.info("removed %d layers that no snapshot owned: %s", len(freed), ", ".join(freed))
        return freed


def _layers_in(root: str) -> list[str]:
    """Return the entries of a root that may be layers: not our own, no empty ones of a driver."""
    with os.scandir(root) as entries:
        return sorted(
            one.name
            for one in entries
            if not one.name.startswith(".")
            and one.name != "lost+found"
            and (one.name.isdecimal() or not _is_empty(one))
        )


def _is_empty(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and not os.listdir(entry.path)


def _check_key(key: str) -> None:
    if not key:
        raise MalformedRequestError("the key is empty")


def _named(kind: SnapshotKind) -> str:
    return kind.name.lower()
