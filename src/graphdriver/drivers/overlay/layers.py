"""Layers of the overlay family: creating, removing, mounting and reading them.

The layers' diffs are in `graphdriver.drivers.overlay.driver`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from graphdriver.abilities import Usage
from graphdriver.driver import IDMap, ProtoDriver, host_root
from graphdriver.drivers.overlay.layout import DIFF, LINKS, MERGED, WORK, Layout
from graphdriver.drivers.overlay.mounter import MAX_LOWERS, Mounter
from graphdriver.drivers.overlay.mounts import LayerMounts
from graphdriver.drivers.overlay.options import XINO, HomeOptions, layer_size
from graphdriver.drivers.overlay.parents import ParentIndex
from graphdriver.drivers.overlay.reference_counts import ReferenceCounts
from graphdriver.drivers.overlay.removal import remove_small_layer
from graphdriver.drivers.overlay.roots import make_root, make_root_like, make_work, root_at
from graphdriver.errors import GraphDriverError, InUseError, UnsupportedError
from graphdriver.files.directories import opened, why_no_directory
from graphdriver.layer.overlay.parentless import Unsettled
from graphdriver.layer.overlay.whiteout import Marks
from graphdriver.layer.tree.copy import copy_metadata
from graphdriver.layer.tree.inodes import disk_usage
from graphdriver.linux import xattr
from graphdriver.linux.project_quota import limit_tree, usage_of
from graphdriver.store import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HomeSetup:
    """The setup of a home that a driver of the overlay family serves.

    Attributes:
        driver: the driver's name.
        mounter: mounts the layers.
        options: the home's options.
        backing: the name of the home's filesystem.
        is_native: whether upper directories hold no marks but the mounter's, so that diffs can be
            read and written in them without a mount.
    """

    driver: str
    mounter: Mounter
    options: HomeOptions
    backing: str
    is_native: bool = True


class OverlayLayers(ProtoDriver):
    """Layers as upper directories, shown by overlay mounts.

    Args:
        set_up: returns how a home is served, given its path and the daemon's options; raises an
            UnsupportedError if it cannot be.
    """

    layout_type: ClassVar[type[Layout]] = Layout
    """The class of the home's layout."""

    def __init__(self, set_up: Callable[[str, Sequence[str]], HomeSetup]) -> None:
        self._set_up = set_up

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        """Take up a home; see `graphdriver.ProtoDriver.init`."""
        self.setup = self._set_up(home, options)
        self._owner = host_root(uid_maps), host_root(gid_maps)
        self._store = Store(home, self._owner[1], own=(LINKS,), delete_small=remove_small_layer)
        self._counts = ReferenceCounts(home)
        self._layout = self.layout_type(home)
        self._layout.make()
        self._mounts = self.make_mounts()
        self._mounts.find(self._store.layers())
        self._mounts.remove_stale_counts()
        self._family = threading.Lock()
        """Guards the index of parents: no parent is removed while a child is made."""
        self._layout.sweep_links(self._store.layers())
        self._links_are_swept = True
        parents = ParentIndex(self._layout.parent_named)
        parents.read(self._store.layers())
        self._parents = parents

    def make_mounts(self) -> LayerMounts:
        """Return the mounts of the layers; called by `init`."""
        options = self.setup.options.mount_options
        return LayerMounts(self._layout, self._counts, self.setup.mounter, options)

    def daemon_began(self) -> None:
        """Count each mounted layer once (`graphdriver.abilities.CountsGets`)."""
        self._counts.reset()

    def release_leftovers(self) -> None:
        """Unmount parents that are not in use (`graphdriver.abilities.FindsLeftovers`)."""
        for id in self._store.layers():
            point = self._mounts.point(id)
            if not self._parents.first_child(id) or not point:
                continue
            try:
                self._mounts.end_unused(id)
            except OSError as error:
                _log.info("left %s as it is: %s", point, error.strerror)
            else:
                _log.info("unmounted %s, left by an earlier daemon", point)

    def is_leftover(self, id: str) -> bool:
        """Tell whether a layer has no child and no mount (`graphdriver.abilities.FindsLeftovers`)."""
        return not self._parents.first_child(id) and not self._mounts.point(id)

    # --- create -----------------------------------------------------------------------------------

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        """Create a layer; see `graphdriver.ProtoDriver.create`."""
        self._create(id, parent, layer_size(storage_opt, self.setup.driver))

    def create_read_write(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        """Create a container's layer; the home's ``size`` and ``volatile`` apply only to these."""
        size = layer_size(storage_opt, self.setup.driver, self.setup.options.size)
        self._create(id, parent, size, is_mounted=True)

    def _create(self, id: str, parent: str, size: int, *, is_mounted: bool = False) -> None:
        volatile = is_mounted and self.setup.options.volatile
        with self._family:
            lowers = self._lowers_upon(parent) if parent else []
            # A daemon that creates a container's layer and cannot get it leaves it there, and cannot
            # remove the image below it any more.
            if is_mounted and not all(map(self._layout.leads_to_content, lowers)):
                self._layout.expect_sound(parent)
            link = self._layout.new_link()
            is_first_child = False
            try:
                with self._store.staged(id) as directory:
                    names = (DIFF, WORK) if lowers else (DIFF,)
                    self._make_diff(f"{directory}/{DIFF}", parent)
                    self._layout.write(directory, link, lowers, volatile=volatile)
                    if lowers:
                        make_work(f"{directory}/{WORK}", self._owner)
                    if size:
                        limit_tree([f"{directory}/{name}" for name in names], size)
                    # Link and mark come before the rename that makes the layer appear: a layer
                    # without them could not be mounted. A kill in between leaves a dangling link,
                    # swept at the next start, and a parent that is marked without a child, which is
                    # mounted read-only and otherwise whole.
                    self._layout.make_link(id, link)
                    if parent:
                        is_first_child = self._layout.commit(parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    if is_first_child:  # so the parent is not read-only
                        self._layout.uncommit(parent)
                    self._layout.remove_link(link)
                raise
            self._parents.add(id, parent)

    # --- a parent that becomes known later --------------------------------------------------------

    def awaits_parent(self, id: str) -> bool:
        """Tell whether a layer can get a parent (`graphdriver.abilities.TakesParentLater`)."""
        self._store.path(id)
        if self._layout.lowers(id):
            return False
        return self._layout.is_unsettled(id) or self.is_pristine(id)

    def note_unsettled(self, id: str, unsettled: Unsettled) -> None:
        """Note what of a layer depends on the layers below."""
        self._layout.write_unsettled(id, unsettled)

    def unsettled(self, id: str) -> Unsettled:
        """Return what of a layer depends on the layers below."""
        return self._layout.unsettled(id)

    def remove_unsettled(self, id: str) -> None:
        """Remove the note: all is settled."""
        self._layout.remove_unsettled(id)

    def take_parent(self, id: str, parent: str) -> None:
        """Give a layer its parent.

        Raises:
            LayerNotFoundError: ``parent`` does not exist.
            UnsupportedError: too many layers are below.
        """
        with self._family:
            self._layout.write_lowers(id, self._lowers_upon(parent))
            self.make_work(id)
            self._layout.commit(parent)
            self._parents.add(id, parent)

    def copy_root(self, id: str, parent: str) -> None:
        """Give a layer's root the metadata of its parent's."""
        with self.opened(parent) as lower, self.opened(id) as upper:
            copy_metadata(upper, os.fstat(lower), xattr.get_all(lower))

    def make_work(self, id: str) -> None:
        """Make the work directory of a layer, unless it exists; its list of lower layers is there."""
        with contextlib.suppress(FileExistsError):
            make_work(self._layout.path(id, WORK), self._owner)

    def _make_diff(self, path: str, parent: str) -> None:
        """Make a layer's ``diff``, with the metadata of the parent's: it is the root of the tree."""
        if not parent:
            make_root(path, self._owner)
            return
        with self._layout.explaining(parent):
            # It exists: no parent is removed while a child is made.
            root = root_at(self._layout.path(parent, DIFF))
        make_root_like(path, root)

    def _lowers_upon(self, parent: str) -> list[str]:
        """Return the links of the layers below a child of ``parent``, nearest first."""
        self._store.parent_path(parent)
        lowers = self.links_for_child(parent)
        if len(lowers) > MAX_LOWERS:
            raise UnsupportedError(
                f"there are {len(lowers) - 1} layers below parent {parent}, and the kernel mounts at"
                f" most {MAX_LOWERS} in all",
                hint="squash some of them",
            )
        return lowers

    def links_for_child(self, id: str) -> list[str]:
        """Return the links that show a layer to a child: its own, and those of the layers below."""
        return [self._layout.link_of(id), *self._layout.lowers(id)]

    # --- remove -----------------------------------------------------------------------------------

    def remove(self, id: str) -> None:
        """Remove a layer; see `graphdriver.ProtoDriver.remove`."""
        if not self.exists(id):
            with self._family:
                self._remove(id)  # finishes an earlier removal that failed half-way
            return
        self.refuse_if_parent(id)
        # Without the lock: an unmount may take long, since it writes dirty data back.
        self._mounts.end(id)
        with self._family:
            self._refuse_if_parent(id)  # again: a child may have been made meanwhile
            self._remove(id)

    def _remove(self, id: str) -> None:
        """Remove a layer's directory, its link, its count and its index entry.

        The directory goes first. A kill after that leaves a dangling link and a count of a layer
        that is not mounted; the next start removes both. A link of which the name cannot be read is
        swept by this removal or a later one.
        """
        link = None
        try:
            link = self._layout.link_of(id)
        except GraphDriverError:
            pass  # it is damaged
        except OSError:  # most likely no descriptor is free, which a removal does not need
            self._links_are_swept = False
        try:
            self._store.remove(id)
        except BaseException:
            if not self._store.exists(id):  # it was being deleted in place
                self._removed(id, link)
            raise
        self._removed(id, link)

    def _removed(self, id: str, link: str | None) -> None:
        """Remove what is left of a layer when its directory is gone."""
        self._parents.discard(id)
        with contextlib.suppress(OSError):
            self._counts.set(id, 0)
            if link:
                self._layout.remove_link(link)
            if not self._links_are_swept:
                self._layout.sweep_links(self._store.layers())
                self._links_are_swept = True

    def refuse_if_parent(self, id: str) -> None:
        """Refuse a change to a layer that has a child.

        Raises:
            InUseError: it has; the text names the child.
        """
        with self._family:
            self._refuse_if_parent(id)

    def _refuse_if_parent(self, id: str) -> None:
        if child := self._parents.first_child(id):
            raise InUseError(
                f"the layer is the parent of layer {child}",
                hint="remove that one first; graphdriver gc removes one that no daemon knows",
            )

    # --- get and put ------------------------------------------------------------------------------

    def get(self, id: str, mount_label: str) -> str:
        """Return the layer's directory, mounted unless its ``diff`` holds the whole tree."""
        self._store.path(id)
        lowers = self.links_below_upper(id)
        if lowers:
            with self._layout.explaining(id):
                return self._mounts.get(id, lowers, mount_label)
        path = self._layout.path(id, DIFF)  # it holds the whole tree
        if why_no_directory(path):
            self._layout.expect_sound(id)
        return path

    def links_below_upper(self, id: str) -> list[str]:
        """Return the links of the lower directories of a layer's own mount, nearest first."""
        return self._layout.lowers(id)

    def put(self, id: str) -> None:
        """Undo one `get`; the last one unmounts."""
        if not self._mounts.put_only(id):
            self._store.path(id)
            self._mounts.put(id)

    def cleanup(self) -> None:
        """Unmount all layers, in use or not, and wait until removed layers are deleted.

        If a layer cannot be unmounted, the others still are.
        """
        failed = []
        for id in self._store.layers():
            try:
                self._mounts.end(id)
            except OSError as error:
                _log.exception("layer %s cannot be unmounted", id)
                failed.append(f"{id} ({error.strerror})")
        self._store.settle()
        if failed:
            raise GraphDriverError(f"these layers cannot be unmounted: {', '.join(failed)}")
        self._counts.reset()
        self.setup.mounter.end()

    # --- reading ----------------------------------------------------------------------------------

    def exists(self, id: str) -> bool:
        """Tell whether a layer exists."""
        return self._store.exists(id)

    def status(self) -> Sequence[tuple[str, str]]:
        """Return lines for ``docker info``, under the names of Docker's overlay2 where it has them."""
        return (
            ("Backing Filesystem", self.setup.backing),
            ("Native Overlay Diff", str(self.setup.is_native).lower()),
            *self.setup.mounter.status(),
            ("Kernel", os.uname().release),
            *self._store.status(),
        )

    def get_metadata(self, id: str) -> Mapping[str, str]:
        """Return the directories of the layer's mount, under the names of Docker's overlay2."""
        diff, work, lowers = self.directories(id)
        merged = self._mounts.point(id) or self._layout.path(id, MERGED)
        metadata = {"MergedDir": merged, "UpperDir": diff, "WorkDir": work}
        if lowers:
            metadata["LowerDir"] = ":".join(lowers)
        return metadata

    def directories(self, id: str) -> tuple[str, str, list[str]]:
        """Return the upper, work and lower directories of a layer's mount."""
        diff, work = os.path.join(self._store.path(id), DIFF), self._layout.path(id, WORK)
        return diff, work, self._layout.directories(self.links_below_upper(id), id)

    def expect_sound(self, id: str) -> None:
        """Raise a LayerDamagedError if a layer, or a layer below it, is damaged."""
        self._layout.expect_sound(id)

    def usage(self, id: str) -> Usage:
        """Count the layer's own directory (`graphdriver.abilities.CountsUsage`)."""
        with self.opened(id) as fd:
            return usage_of(fd) or disk_usage(fd)

    def parent_of(self, id: str) -> str:
        """Return a layer's parent, ``""`` if it has none.

        Raises:
            LayerNotFoundError: ``id`` does not exist.
        """
        self._store.path(id)
        return self._layout.parent_of(id)

    def is_pristine(self, id: str) -> bool:
        """Tell whether nothing was written to a layer and it is not mounted.

        Raises:
            LayerNotFoundError: ``id`` does not exist.
        """
        self._store.path(id)
        return self._layout.is_unwritten(id) and not self._mounts.point(id)

    @property
    def marks(self) -> Marks:
        """The form of the marks for deletions and opaque directories."""
        marks = self.setup.mounter.marks
        if XINO in self.setup.options.mount_options:
            # With it overlayfs marks each new directory in a merged one as opaque, whether or not that
            # hides anything (fs/overlayfs/dir.c, ovl_create_upper).
            return replace(marks, exact=False)
        return marks

    @contextlib.contextmanager
    def opened(self, id: str) -> Iterator[int]:
        """Open a layer's ``diff`` directory for the length of a ``with`` block.

        Raises:
            LayerNotFoundError: ``id`` does not exist.
        """
        with (
            self._layout.explaining(id),
            opened(os.path.join(self._store.path(id), DIFF)) as fd,
        ):
            yield fd

    @contextlib.contextmanager
    def opened_below(self, id: str) -> Iterator[list[int]]:
        """Open the directories of the layers below a layer, nearest first."""
        with self._layout.explaining(id), contextlib.ExitStack() as held:
            paths = self._layout.lower_directories(id)
            yield [held.enter_context(opened(path)) for path in paths]
