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

import logging
import os
import queue
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from graphdriver import returned
from graphdriver.containerd.filters import fields_of, parse_all
from graphdriver.containerd.got import Got
from graphdriver.containerd.metadata import Metadata, Snapshot, SnapshotKind
from graphdriver.containerd.remap import remap_of
from graphdriver.driver import (
    CountsGets,
    CountsUsage,
    Mount,
    NamesMounts,
    ProtoDriver,
    Usage,
    ability,
    mounted,
)
from graphdriver.errors import (
    LayerExistsError,
    MalformedRequestError,
    NotReadyError,
    UnsupportedError,
)
from graphdriver.layer.tree.inodes import disk_usage
from graphdriver.linux.filesystem import syncfs
from graphdriver.locks import LayerLocks
from graphdriver.serving.home import Home
from graphdriver.serving.options import take_option

ENGINE: Final = "containerd"
MAX_SIZE: Final = "containerd.io/snapshot/max-size"

_log = logging.getLogger(__name__)


class Snapshots:
    """The snapshots of a root, kept by a driver; `close` lets go of it.

    Args:
        driver: keeps the layers.
        root: an absolute path; it is made if it is not there.
        options: for the driver; ``adopt=yes`` takes over a directory that holds other files.
        sync: whether Commit waits until all is on disk.

    Raises:
        InUseError: another process serves the root.
        UnsupportedError: it belongs to another driver, or to a Docker daemon.
        GraphDriverError: the database is damaged, or missing beside layers; nothing is changed.
    """

    def __init__(
        self, driver: ProtoDriver, root: str, options: Sequence[str] = (), *, sync: bool = True
    ) -> None:
        self._driver = driver
        self._sync = sync
        self._locks = LayerLocks()
        self._warned = False
        options, adopt = take_option(options, "adopt", ("no", "yes"))
        self._home = Home(root, adopt=adopt == "yes")
        try:
            name = driver.driver_name or type(driver).__name__
            was_ours = self._home.claim(ENGINE, name, driver.home_format)
            # Before the driver, which sweeps and makes directories: a damaged root stays as it is.
            database = os.path.join(root, ".graphdriver", "snapshots.db")
            self._metadata = Metadata(database, _layers_in(root) if was_ours else ())
        except BaseException:
            self._home.close()
            raise
        try:
            got = os.path.join(root, ".graphdriver", "got")
            self._got = Got(got, kept=ability(driver, CountsGets) is not None)
            driver.init(root, options, [], [])
        except BaseException:
            self._metadata.close()
            self._home.close()
            raise
        self._to_count: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._closing = False
        self._counter = threading.Thread(target=self._count, name="usage", daemon=True)
        self._counter.start()
        self._put_unnoted()
        self.cleanup()
        for one in self._metadata.uncounted():
            self._to_count.put(one.key)

    def close(self) -> None:
        """Let go of the root; mounts and layers stay as they are."""
        self._closing = True
        self._to_count.put("")
        self._counter.join()
        self._metadata.close()
        self._home.close()

    def see_root(self) -> None:
        """See that the root is the directory that was taken up; each call asks.

        Raises:
            NotReadyError: it was deleted, or something was mounted there.
        """
        if not self._home.is_current():
            raise NotReadyError(
                f"{self._home.path} is not the directory that was served until now: it was deleted, or"
                " something was mounted there",
                hint="mount what was there, or restart the snapshotter to serve what is there now",
            )

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
                self._let_go(number)
                if layer:
                    self._driver.remove(layer)
                raise
        return mounts

    def _create(self, layer: str, below: str, labels: Mapping[str, str]) -> None:
        size = labels.get(MAX_SIZE)
        if size is None:
            self._driver.create(layer, below, "", {})
            return
        try:
            self._driver.create_read_write(layer, below, "", {"size": size})
        except UnsupportedError as error:
            if not self._warned:
                _log.warning("%s is not heeded: %s", MAX_SIZE, error)
                self._warned = True
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
        namer = ability(self._driver, NamesMounts)
        if namer:
            return returned.mounts(namer.mounts(layer, read_only=read_only))
        path = returned.directory(self._driver.get(layer, ""))
        if number in self._got:
            self._driver.put(layer)  # it is held already, and once is enough
        self._got.add(number, layer)
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
            if self._sync:
                home = self._home.open()
                try:
                    syncfs(home)
                finally:
                    os.close(home)
            self._metadata.commit(one, name, labels)
        self._to_count.put(name)

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
                self._let_go(one.number)
            return
        with self._locks.held(one.layer, alone=True):
            self._metadata.remove(one)
            self._let_go(one.number)
            self._end(one.layer)

    def _let_go(self, number: int) -> None:
        """Put what was got for a snapshot, if something was."""
        layer = self._got.pop(number)
        if layer is None:
            return
        try:
            self._driver.put(layer)
        except Exception:
            _log.exception("the layer %s cannot be put", layer)

    def _put_unnoted(self) -> None:
        """Put what was got for snapshots that a kill kept from being noted, or from being put."""
        noted = {one.number for one in self._metadata.all()}
        for number in self._got.numbers() - noted:
            self._let_go(number)

    def _end(self, layer: str) -> bool:
        """Remove a doomed layer; one that cannot be removed holds up nobody."""
        try:
            existed = returned.truth(self._driver.exists(layer))
            self._driver.remove(layer)
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
            return self._usage_of(one.layer)

    def cleanup(self) -> list[str]:
        """Remove the layers that no snapshot owns; return them."""
        freed = []
        for layer in self._metadata.orphans():
            with self._locks.held(layer, alone=True):
                if layer in self._metadata.orphans() and self._end(layer):
                    freed.append(layer)
        self._metadata.keep_reserve()  # what was removed before may have made room
        if freed:
            _log.info("removed %d layers that no snapshot owned: %s", len(freed), ", ".join(freed))
        return freed

    # --- usage ------------------------------------------------------------------------------------

    def _usage_of(self, layer: str) -> Usage:
        counting = ability(self._driver, CountsUsage)
        if counting:
            return returned.usage(counting.usage(layer))
        with mounted(self._driver, layer) as path:
            fd = os.open(returned.directory(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return disk_usage(fd)
            finally:
                os.close(fd)

    def _count(self) -> None:
        """Count what was committed, one after the other, behind the calls; the next start goes on."""
        while (key := self._to_count.get()) and not self._closing:
            try:
                one = self._metadata.stat(key)
                with self._locks.held(one.layer):
                    self._metadata.count(one, self._usage_of(one.layer))
            except Exception as error:
                if self._metadata.exists(key):  # else it was removed meanwhile
                    _log.warning("the snapshot %s cannot be counted: %s", key, error)


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
