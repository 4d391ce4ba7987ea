"""The driver vfs; the package's docstring describes its layout on disk."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from graphdriver.abilities import Suitability
from graphdriver.driver import IDMap, Needs, ProtoDriver, host_root
from graphdriver.drivers.layer_checks import expect_tree
from graphdriver.drivers.options import Option, read_options, split_options
from graphdriver.drivers.probe_record import probe_or_recall
from graphdriver.drivers.vfs import checking, reading
from graphdriver.drivers.vfs.dockers_own import DockersVfs
from graphdriver.drivers.vfs.reading import MADE, ROOT, copied_at, noted_parent
from graphdriver.errors import UnsupportedError
from graphdriver.files.small_files import write_whole
from graphdriver.homes import Damage, DockersOwn, SizedChange, StoredLayer
from graphdriver.layer.tree.tree_copy import copy_tree
from graphdriver.linux import reflink
from graphdriver.linux.filesystem import syncfs
from graphdriver.store import Store

_log = logging.getLogger(__name__)


class VfsDriver(ProtoDriver):
    """Layers as full copies in plain directories."""

    driver_name: ClassVar[str] = "vfs"
    options: ClassVar[Sequence[Option]] = ()
    # Root fills images beyond the quotas of their files' owners.
    needs: ClassVar[Needs] = Needs(frozenset({"CAP_SYS_RESOURCE"}))

    @classmethod
    def probe(cls, home: str) -> Suitability:
        """Tell how well the driver suits a directory, which exists."""
        if reflink.works_in(home):
            return Suitability(20, "each layer is a copy that shares unchanged blocks (reflink)")
        return Suitability(10, "each layer is a full copy, on any filesystem")

    @classmethod
    def check(cls, options: Sequence[str]) -> None:
        """Refuse what would be refused in any home."""
        _refuse_options(split_options(options))

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
        return DockersVfs()

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        """Take up a home; see `graphdriver.ProtoDriver.init`."""
        self.check(options)
        self._owner = host_root(uid_maps), host_root(gid_maps)
        found = probe_or_recall(home, lambda: {"reflink": reflink.works_in(home)})
        self._shares = found.get("reflink")
        self._store = Store(home, self._owner[1])

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        """Create a layer; see `graphdriver.ProtoDriver.create`."""
        _refuse_options(storage_opt.items())
        if parent:
            self._store.parent_path(parent)
        with self._store.staged(id) as directory:
            root = os.path.join(directory, ROOT)
            os.mkdir(root, 0o755)
            os.chmod(root, 0o755)
            os.chown(root, *self._owner)
            if parent:
                _copy(expect_tree(self._store.home, parent, ROOT), root)
            write_whole(os.path.join(directory, MADE), parent, 0o600)

    def remove(self, id: str) -> None:
        """Remove a layer; see `graphdriver.ProtoDriver.remove`."""
        self._store.remove(id)

    def get(self, id: str, mount_label: str) -> str:
        """Return the layer's tree; see `graphdriver.ProtoDriver.get`."""
        self._store.path(id)
        return expect_tree(self._store.home, id, ROOT)

    def put(self, id: str) -> None:
        """Check that the layer exists, and do nothing else."""
        self._store.path(id)

    def exists(self, id: str) -> bool:
        """Tell whether a layer exists."""
        return self._store.exists(id)

    def status(self) -> Sequence[tuple[str, str]]:
        """Return how layers are copied here."""
        copies = "unknown" if self._shares is None else "reflink" if self._shares else "full"
        return (("Copies", copies), *self._store.status())

    def get_metadata(self, id: str) -> Mapping[str, str]:
        """Return nothing, like Docker's own vfs."""
        self._store.path(id)
        return {}

    def cleanup(self) -> None:
        """Wait until removed layers are deleted, so that the filesystem can be unmounted."""
        self._store.settle()

    def release_leftovers(self) -> None:
        """Do nothing: nothing is ever mounted (`graphdriver.abilities.FindsLeftovers`)."""

    def is_leftover(self, id: str) -> bool:
        """Tell whether no layer is a copy of this one (`graphdriver.abilities.FindsLeftovers`)."""
        for other in self._store.layers():
            # A layer with a damaged file needs no parent: it is a whole tree.
            with contextlib.suppress(FileNotFoundError, ValueError):
                if noted_parent(os.path.join(self._store.path(other), MADE)) == id:
                    return False
        return True

    def untouched_since(self, id: str, parent: str) -> int | None:
        """Return when the layer became a finished copy of ``parent``, in nanoseconds.

        None if it never did, or if that is not known (`graphdriver.abilities.TellsUntouched`).
        """
        made = os.path.join(self._store.path(id), MADE)
        try:
            return copied_at(made, parent)
        except (FileNotFoundError, ValueError) as error:
            _log.warning("%s is damaged (%s); layer %s is compared as a whole", made, error, id)
            return None


def _refuse_options(options: Iterable[tuple[str, str]]) -> None:
    """Refuse all options; for ``size`` the error suggests another driver."""
    given = list(options)
    if any(key == "size" for key, _ in given):
        raise UnsupportedError(
            "vfs cannot limit the size of a layer",
            hint="leave size= out, or use a driver that can",
        )
    read_options(given, VfsDriver.options, VfsDriver.driver_name)


def _copy(source: str, target: str) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    source_fd = os.open(source, flags)
    try:
        target_fd = os.open(target, flags)
        try:
            copy_tree(source_fd, target_fd)
            # Before the layer appears: after a power cut no container may run on half an image.
            syncfs(target_fd)
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)
