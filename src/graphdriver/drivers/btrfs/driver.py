"""The driver btrfs; the package's docstring describes its layout on disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from graphdriver.abilities import Suitability, Touched, Usage
from graphdriver.driver import IDMap, Needs, ProtoDriver, host_root
from graphdriver.drivers.btrfs import checking, reading, subvolumes
from graphdriver.drivers.btrfs.dockers_own import DockersBtrfs
from graphdriver.drivers.btrfs.own_usage import own_usage
from graphdriver.drivers.btrfs.probe import expect_btrfs, expect_kernel, probe_subvolumes
from graphdriver.drivers.btrfs.subvolumes import ROOT, delete_layer
from graphdriver.drivers.btrfs.touched import made_since, touched_since
from graphdriver.drivers.layer_checks import expect_tree
from graphdriver.drivers.options import Option, parse_size, read_options, split_options
from graphdriver.drivers.probe_record import probe_or_recall
from graphdriver.errors import LayerDamagedError, UnsupportedError
from graphdriver.files.directories import opened
from graphdriver.homes import Damage, DockersOwn, SizedChange, StoredLayer
from graphdriver.linux import btrfs, btrfs_quota, inode_flags
from graphdriver.store import Store


class BtrfsDriver(ProtoDriver):
    """Layers as subvolumes and snapshots."""

    driver_name: ClassVar[str] = "btrfs"
    # Root fills images beyond the quotas of their files' owners.
    needs: ClassVar[Needs] = Needs(frozenset({"CAP_SYS_RESOURCE"}))
    options: ClassVar[Sequence[Option]] = (
        Option("size=10G", "how much a container's layer may hold in addition to its image"),
    )

    @classmethod
    def probe(cls, home: str) -> Suitability:
        """Tell how well the driver suits a directory, which exists."""
        expect_btrfs(home)
        probe_subvolumes(home)
        return Suitability(25, "layers are snapshots; simple quotas limit their size")

    @classmethod
    def check(cls, options: Sequence[str]) -> None:
        """Refuse what would be refused in any home."""
        _size_in(split_options(options))
        expect_kernel()

    @classmethod
    def stored_layers(cls, home: str) -> Iterator[StoredLayer]:
        """Yield all layers of a home, served or not (`graphdriver.homes.ReadsHome`)."""
        return reading.stored_layers(home)

    @classmethod
    def stored_changes(cls, home: str, id: str, parent: str) -> Iterator[SizedChange]:
        """Yield the changes of a layer, served or not (`graphdriver.homes.ReadsChanges`)."""
        return reading.stored_changes(home, id, parent)

    @classmethod
    def check_home(cls, home: str) -> Iterator[Damage]:
        """Yield what is wrong in a home (`graphdriver.homes.ChecksHome`)."""
        return checking.check_home(home)

    @classmethod
    def mend_home(cls, home: str, damage: Damage) -> None:
        """Repair one damage (`graphdriver.homes.ChecksHome`)."""
        checking.mend_home(home, damage)

    @classmethod
    def dockers_own(cls) -> DockersOwn:
        """Return what is known of Docker's own driver (`graphdriver.homes.KnowsDockersOwn`)."""
        return DockersBtrfs()

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        """Take up a home; see `graphdriver.ProtoDriver.init`."""
        self._size = _size_in(split_options(options))
        expect_btrfs(home)
        probe_or_recall(home, lambda: probe_subvolumes(home))
        self._owner = host_root(uid_maps), host_root(gid_maps)
        self._store = Store(home, self._owner[1], delete=delete_layer)

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        """Create a layer; see `graphdriver.ProtoDriver.create`."""
        self._create(id, parent, _size_in(storage_opt.items()))

    def create_read_write(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        """Create a container's layer; the home's ``size`` applies to such layers only."""
        self._create(id, parent, _size_in(storage_opt.items()) or self._size)

    def _create(self, id: str, parent: str, size: int) -> None:
        if parent:
            self._store.parent_path(parent)
        with self._store.staged(id) as directory, opened(directory) as directory_fd:
            if parent:
                with opened(expect_tree(self._store.home, parent, ROOT)) as source_fd:
                    if not btrfs.is_subvolume(source_fd):
                        raise UnsupportedError(
                            f"the tree of parent {parent} is a plain directory, not a subvolume",
                            hint="remove the layers that were copied without `btrfs send` and"
                            " `receive`, and load their images again",
                        )
                    subvolumes.snapshot(source_fd, directory_fd, os.fsencode(ROOT))
            else:
                btrfs.create_subvolume(directory_fd, os.fsencode(ROOT))
            with opened(os.path.join(directory, ROOT)) as root:
                if parent:  # a snapshot of an immutable parent is immutable too
                    inode_flags.allow_changes(root)
                else:
                    os.fchmod(root, 0o755)
                    os.fchown(root, *self._owner)
                if size:
                    btrfs_quota.limit_subvolume(root, btrfs.subvolume_of(root).id, size)

    def remove(self, id: str) -> None:
        """Remove a layer; see `graphdriver.ProtoDriver.remove`."""
        self._store.remove(id)

    def get(self, id: str, mount_label: str) -> str:
        """Return the layer's subvolume; see `graphdriver.ProtoDriver.get`."""
        self._store.path(id)
        return expect_tree(self._store.home, id, ROOT)

    def put(self, id: str) -> None:
        """Check that the layer exists, and do nothing else."""
        self._store.path(id)

    def exists(self, id: str) -> bool:
        """Tell whether a layer exists."""
        return self._store.exists(id)

    def status(self) -> Sequence[tuple[str, str]]:
        """Return whether sizes can be limited."""
        with opened(os.path.join(self._store.home, ".")) as fd:  # a home may be a symlink
            try:
                quotas = "simple" if btrfs_quota.is_enabled(fd) else "off"
            except UnsupportedError:
                quotas = "not simple"
        return (
            ("Backing Filesystem", "btrfs"),
            ("Quotas", quotas),
            ("Kernel", os.uname().release),
            *self._store.status(),
        )

    def get_metadata(self, id: str) -> Mapping[str, str]:
        """Return a layer's limit and what it has written, in bytes; nothing if it has no limit."""
        with opened(self.get(id, "")) as fd:
            quota = btrfs_quota.quota_of(fd, btrfs.subvolume_of(fd).id)
        return {"Size": str(quota.limit), "Used": str(quota.used)} if quota else {}

    def usage(self, id: str) -> Usage:
        """Count what a layer does not share with its parent (`graphdriver.abilities.CountsUsage`)."""
        with opened(self.get(id, "")) as fd:
            return own_usage(fd)

    def cleanup(self) -> None:
        """Wait until removed layers are deleted, so that the filesystem can be unmounted."""
        self._store.settle()

    def release_leftovers(self) -> None:
        """Do nothing: nothing is ever mounted (`graphdriver.abilities.FindsLeftovers`)."""

    def is_leftover(self, id: str) -> bool:
        """Tell whether no layer is a snapshot of this one (`graphdriver.abilities.FindsLeftovers`)."""
        with opened(self.get(id, "")) as fd:
            uuid = btrfs.subvolume_of(fd).uuid
        for other in self._store.layers():
            lost = contextlib.suppress(FileNotFoundError, LayerDamagedError)
            with lost, opened(self.get(other, "")) as fd:
                if btrfs.subvolume_of(fd).parent_uuid == uuid:
                    return False
        return True

    def untouched_since(self, id: str, parent: str) -> int | None:
        """Return when the layer was made as a snapshot of ``parent``, in nanoseconds.

        None if it is a snapshot of another layer (`graphdriver.abilities.TellsUntouched`).
        """
        with opened(self.get(id, "")) as upper, opened(self.get(parent, "")) as lower:
            return made_since(upper, lower)

    def touched_since(self, upper_fd: int, lower_fd: int) -> Touched | None:
        """Return where a layer can differ from its parent, given their open root directories.

        None if that is unknown: the other layer is not its parent, or one of them holds subvolumes.
        """
        return touched_since(upper_fd, lower_fd)


def _size_in(options: Iterable[tuple[str, str]]) -> int:
    """Return the option ``size`` of a home or a layer, in bytes; 0 if it is not given."""
    values = read_options(options, BtrfsDriver.options, BtrfsDriver.driver_name)
    return parse_size(values["size"]) if "size" in values else 0
