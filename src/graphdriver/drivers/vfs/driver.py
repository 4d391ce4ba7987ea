"""The driver that works everywhere: each layer is a full copy of its parent.

On disk::

    HOME/ID/root    the layer's tree, as containers see it
    HOME/ID/made    the parent's ID; written when the copy of the parent was finished

A copy shares its blocks with the parent where the filesystem can (reflink: btrfs, xfs); elsewhere it
costs the time and the space of the whole image. A layer does not need its parent any more once it is
made. There is nothing to mount and so nothing to count.

A copy is on disk before it becomes a layer: not every layer is applied to, and synced, after that, and
after a power cut no container shall run on half an image.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import ClassVar

from graphdriver.driver import IDMap, ProtoDriver, Suitability, host_root
from graphdriver.drivers.probed import probed
from graphdriver.drivers.vfs.tree_copy import copy_tree
from graphdriver.errors import UnsupportedError
from graphdriver.files.small_files import read_text, write_whole
from graphdriver.linux import reflink
from graphdriver.linux.filesystem import syncfs
from graphdriver.store import Store

_ROOT = "root"
_MADE = "made"

_log = logging.getLogger(__name__)


class VfsDriver(ProtoDriver):
    """Full copies in plain folders."""

    driver_name: ClassVar[str] = "vfs"

    @classmethod
    def probe(cls, home: str) -> Suitability:
        """Tell how well the driver would do in a folder, which exists."""
        if _shares_blocks(home):
            return Suitability(20, "copies share their blocks (reflink)")
        return Suitability(10, "works on every filesystem, by full copies")

    @classmethod
    def check(cls, options: Sequence[str]) -> None:
        """Refuse what would be refused in any home."""
        _refuse_options([option.partition("=")[0] for option in options])

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
        self._shares = probed(home, lambda: {"reflink": _shares_blocks(home)}).get("reflink")
        self._store = Store(home, self._owner[1])

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        """Make a layer; see `graphdriver.ProtoDriver.create`."""
        _refuse_options(storage_opt)
        source = self._store.parent_path(parent) if parent else None
        with self._store.staged(id) as folder:
            root = os.path.join(folder, _ROOT)
            os.mkdir(root, 0o755)
            os.chmod(root, 0o755)
            os.chown(root, *self._owner)
            if source:
                _copy(os.path.join(source, _ROOT), root)
            write_whole(os.path.join(folder, _MADE), parent, 0o600)

    def remove(self, id: str) -> None:
        """End a layer; see `graphdriver.ProtoDriver.remove`."""
        self._store.remove(id)

    def get(self, id: str, mount_label: str) -> str:
        """Return the layer's folder; see `graphdriver.ProtoDriver.get`."""
        return os.path.join(self._store.path(id), _ROOT)

    def put(self, id: str) -> None:
        """Do nothing more than see that the layer is there."""
        self._store.path(id)

    def exists(self, id: str) -> bool:
        """Tell whether there is such a layer."""
        return self._store.exists(id)

    def status(self) -> Sequence[tuple[str, str]]:
        """Tell how layers are copied here."""
        copies = "unknown" if self._shares is None else "reflink" if self._shares else "full"
        return (("Copies", copies), *self._store.status())

    def get_metadata(self, id: str) -> Mapping[str, str]:
        """Return nothing, as Docker's own vfs does."""
        self._store.path(id)
        return {}

    def cleanup(self) -> None:
        """Wait until what was removed is deleted, so that the filesystem can be unmounted."""
        self._store.settle()

    def release_leftovers(self) -> None:
        """Do nothing: nothing is ever mounted (`graphdriver.driver.FindsLeftovers`)."""

    def is_leftover(self, id: str) -> bool:
        """Tell whether no layer is a copy of this one (`graphdriver.driver.FindsLeftovers`)."""
        for other in self._store.layers():
            # One whose file is damaged needs no parent: a layer is a whole tree.
            with contextlib.suppress(FileNotFoundError, ValueError):
                if read_text(os.path.join(self._store.path(other), _MADE)) == id:
                    return False
        return True

    def untouched_since(self, id: str, parent: str) -> int | None:
        """Return when the layer was a finished copy of ``parent``, in nanoseconds, for the differ.

        None if it never was: ``parent`` is another layer than the one it was made of.
        """
        made = os.path.join(self._store.path(id), _MADE)
        try:
            return os.stat(made).st_ctime_ns if read_text(made) == parent else None
        except (FileNotFoundError, ValueError) as error:
            _log.warning("%s is damaged (%s); layer %s is compared as a whole", made, error, id)
            return None


def _refuse_options(names: Mapping[str, str] | Sequence[str]) -> None:
    for name in names:
        if name == "size":
            raise UnsupportedError(
                "vfs cannot limit the size of a layer",
                hint="leave size= out, or use a driver that can",
            )
        raise UnsupportedError(f"vfs knows no option {name!r}", hint="it knows none at all")


def _copy(source: str, target: str) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    source_fd = os.open(source, flags)
    try:
        target_fd = os.open(target, flags)
        try:
            copy_tree(source_fd, target_fd)
            syncfs(target_fd)
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)


def _shares_blocks(home: str) -> bool:
    with tempfile.TemporaryFile(dir=home) as one, tempfile.TemporaryFile(dir=home) as other:
        one.write(b"x" * 4096)
        one.flush()
        return reflink.clone(other.fileno(), one.fileno())
