"""The driver on btrfs: each layer is a subvolume, and begins as a snapshot of its parent.

On disk::

    HOME/ID/root    the layer's tree, as containers see it: a subvolume

All else is told by the filesystem: what a subvolume is a snapshot of, in which transaction it was
made, and what was changed after that. So a layer is compared with its direct parent without walking
through the two trees: only what was touched since is looked at (`graphdriver.drivers.btrfs.touched`).
Against another layer, or where containers have made subvolumes of their own, all is compared.

A snapshot is on disk when it is made. There is nothing to mount and so nothing to count. A layer does
not need its parent any more once it is made. To remove one, its subvolume is destroyed as a whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

from graphdriver.driver import IDMap, ProtoDriver, Suitability, Touched, host_root
from graphdriver.drivers.btrfs import subvolumes
from graphdriver.drivers.btrfs.touched import touched_since
from graphdriver.drivers.probed import probed
from graphdriver.drivers.sizes import size_of
from graphdriver.errors import UnsupportedError
from graphdriver.files.path_lock import locked
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.linux import btrfs, btrfs_quota, filesystem, inode_flags
from graphdriver.linux.filesystem import syncfs
from graphdriver.linux.mount import knows
from graphdriver.linux.mountinfo import fstype_of
from graphdriver.store import Store

KNOWN: Final = {"size": "how much a container's layer may hold beyond its image: size=10G"}
"""The options of a home. With Docker's own prefix, ``btrfs.size=10G``, they are taken too."""

_ROOT: Final = "root"
_PROBE: Final = ".btrfs-probe"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class BtrfsDriver(ProtoDriver):
    """Subvolumes and snapshots."""

    driver_name: ClassVar[str] = "btrfs"

    @classmethod
    def probe(cls, home: str) -> Suitability:
        """Tell how well the driver would do in a folder, which exists."""
        _expect_btrfs(home)
        _examine(home)
        return Suitability(25, "layers are snapshots; size= works, by simple quotas")

    @classmethod
    def check(cls, options: Sequence[str]) -> None:
        """Refuse what would be refused in any home."""
        _home_size(options)
        if not knows("btrfs"):
            raise UnsupportedError(
                "btrfs: this kernel has no btrfs", hint="load it (modprobe btrfs), or use overlay2"
            )

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        """Take up a home; see `graphdriver.ProtoDriver.init`."""
        self._size = _home_size(options)
        _expect_btrfs(home)
        probed(home, lambda: _examine(home))
        self._owner = host_root(uid_maps), host_root(gid_maps)
        self._store = Store(home, self._owner[1], delete=_delete)

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        """Make a layer; see `graphdriver.ProtoDriver.create`."""
        self._create(id, parent, _size_in(storage_opt, "of a layer"))

    def create_read_write(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        """Make a container's layer, the only kind that the home's ``size`` is for."""
        self._create(id, parent, _size_in(storage_opt, "of a layer") or self._size)

    def _create(self, id: str, parent: str, size: int) -> None:
        source = self._store.parent_path(parent) if parent else None
        with self._store.staged(id) as folder, _opened(folder) as folder_fd:
            if source:
                with _opened(os.path.join(source, _ROOT)) as source_fd:
                    if not btrfs.is_subvolume(source_fd):
                        raise UnsupportedError(
                            f"the tree of parent {parent} is a plain folder, and no subvolume",
                            hint="a home is copied with `btrfs send` and `receive`; remove the"
                            " copied layers, and load their images again",
                        )
                    subvolumes.snapshot(source_fd, folder_fd, os.fsencode(_ROOT))
            else:
                btrfs.create_subvolume(folder_fd, os.fsencode(_ROOT))
            with _opened(os.path.join(folder, _ROOT)) as root:
                if source:  # a container may write to its root, whatever was done to its parent's
                    inode_flags.allow_changes(root)
                else:
                    os.fchmod(root, 0o755)
                    os.fchown(root, *self._owner)
                if size:
                    btrfs_quota.limit_subvolume(root, btrfs.subvolume_of(root).id, size)

    def remove(self, id: str) -> None:
        """End a layer; see `graphdriver.ProtoDriver.remove`."""
        self._store.remove(id)

    def get(self, id: str, mount_label: str) -> str:
        """Return the layer's subvolume; see `graphdriver.ProtoDriver.get`."""
        return os.path.join(self._store.path(id), _ROOT)

    def put(self, id: str) -> None:
        """Do nothing more than see that the layer is there."""
        self._store.path(id)

    def exists(self, id: str) -> bool:
        """Tell whether there is such a layer."""
        return self._store.exists(id)

    def status(self) -> Sequence[tuple[str, str]]:
        """Tell whether sizes are limited."""
        with _opened_home(self._store.home) as fd:
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
        """Return the limit of a layer that has one, and what was written; nothing of others."""
        with _opened(self.get(id, "")) as fd:
            quota = btrfs_quota.quota_of(fd, btrfs.subvolume_of(fd).id)
        return {"Size": str(quota.limit), "Used": str(quota.used)} if quota else {}

    def cleanup(self) -> None:
        """Wait until what was removed is deleted, so that the filesystem can be unmounted."""
        self._store.settle()

    def release_leftovers(self) -> None:
        """Do nothing: nothing is ever mounted (`graphdriver.driver.FindsLeftovers`)."""

    def is_leftover(self, id: str) -> bool:
        """Tell whether no layer is a snapshot of this one (`graphdriver.driver.FindsLeftovers`)."""
        with _opened(self.get(id, "")) as fd:
            uuid = btrfs.subvolume_of(fd).uuid
        for other in self._store.layers():
            with contextlib.suppress(FileNotFoundError), _opened(self.get(other, "")) as fd:
                if btrfs.subvolume_of(fd).parent_uuid == uuid:
                    return False
        return True

    def untouched_since(self, id: str, parent: str) -> int | None:
        """Return when the layer was made as a snapshot of ``parent``, in nanoseconds, for the differ.

        None if it never was: ``parent`` is another layer than that.
        """
        with _opened(self.get(id, "")) as upper, _opened(self.get(parent, "")) as lower:
            made, source = btrfs.subvolume_of(upper), btrfs.subvolume_of(lower)
            return made.made_ns if made.parent_uuid == source.uuid else None

    def touched_since(self, upper_fd: int, lower_fd: int) -> Touched | None:
        """Tell where a layer can differ from its parent, given their root folders, for the differ.

        None if that is not known: the other layer is not its parent, or there are more subvolumes.
        """
        made, source = btrfs.subvolume_of(upper_fd), btrfs.subvolume_of(lower_fd)
        if made.parent_uuid != source.uuid or any(
            True for one in (made, source) for _ in btrfs.subvolumes_in(upper_fd, one.id)
        ):
            return None
        syncfs(upper_fd)  # what is not written yet is not in the trees
        return touched_since(upper_fd, lower_fd, made.made_in)


def _home_size(options: Sequence[str]) -> int:
    given = (option.partition("=") for option in options)
    return _size_in({key: value for key, _, value in given}, "of a home")


def _size_in(options: Mapping[str, str], of: str) -> int:
    """Return the only option there is, in bytes; 0 if it is not given."""
    size = 0
    for key, value in options.items():
        if key.lower().removeprefix("btrfs.") not in KNOWN:
            known = "; ".join(f"{name}= ({text})" for name, text in KNOWN.items())
            raise UnsupportedError(f"btrfs knows no option {key!r} {of}", hint=f"it knows {known}")
        size = size_of(value)
    return size


def _delete(dir_fd: int, name: bytes) -> None:
    """Delete what was a layer's folder, finished or not; what is no subvolume in it, too."""
    absent = contextlib.suppress(FileNotFoundError, NotADirectoryError)
    with absent, _opened(name, dir_fd=dir_fd) as folder:
        with _opened(_ROOT, dir_fd=folder) as root:
            is_subvolume = btrfs.is_subvolume(root)
        if is_subvolume:
            subvolumes.destroy(folder, os.fsencode(_ROOT))
    remove_tree(dir_fd, name)


def _expect_btrfs(home: str) -> None:
    with _opened_home(home) as fd:
        if filesystem.magic_of(fd) != filesystem.BTRFS:
            raise UnsupportedError(
                f"btrfs: {home} is on {fstype_of(fd)}",
                hint="set the daemon's data-root to a btrfs filesystem, or use overlay2",
            )


def _examine(home: str) -> Mapping[str, object]:
    """See whether subvolumes can be made in a folder, found in trees and destroyed, by doing it.

    Raises:
        UnsupportedError: they cannot; the text says why and what to do.
        OSError: nothing can be written there.
    """
    with locked(home), _opened_home(home) as fd:
        try:
            _clear_probe(fd)
            os.mkdir(_PROBE, 0o700, dir_fd=fd)
            with _opened(_PROBE, dir_fd=fd) as folder:
                btrfs.create_subvolume(folder, os.fsencode(_ROOT))
            _clear_probe(fd)
        except PermissionError as error:
            remove_tree(fd, os.fsencode(_PROBE))  # an empty subvolume goes as a folder does
            raise UnsupportedError(
                f"btrfs: subvolumes cannot be listed and destroyed here ({error.strerror}), which"
                " takes CAP_SYS_ADMIN outside of all user namespaces",
                hint="use overlay2 or vfs",
            ) from error
    return {}


def _clear_probe(fd: int) -> None:
    _delete(fd, os.fsencode(_PROBE))


@contextlib.contextmanager
def _opened(path: str | bytes, dir_fd: int | None = None) -> Iterator[int]:
    fd = os.open(path, _FOLDER, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _opened_home(home: str) -> contextlib.AbstractContextManager[int]:
    """Open a home, which may be a link to where it is, other than all that is in one."""
    return _opened(os.path.join(home, "."))
