"""The layers of the driver erofs: upper directories, each on what was applied to the layer.

The layers' diffs are in `graphdriver.drivers.erofs.driver`.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from graphdriver.abilities import Usage
from graphdriver.driver import IDMap, ReadStream
from graphdriver.drivers.erofs.applied import AppliedParts
from graphdriver.drivers.erofs.image_mounts import ImageMounts
from graphdriver.drivers.erofs.in_place import PartsInPlace
from graphdriver.drivers.erofs.layout import APPLIED, IMAGE, ImageLayout
from graphdriver.drivers.erofs.probe import Found
from graphdriver.drivers.overlay.layers import HomeSetup, OverlayLayers
from graphdriver.drivers.overlay.layout import DIFF, Layout
from graphdriver.drivers.overlay.mounter import MAX_LOWERS, Mounter
from graphdriver.drivers.overlay.mounts import LayerMounts
from graphdriver.drivers.overlay.reference_counts import ReferenceCounts
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.files.directories import opened
from graphdriver.in_place import SharedImage, TarInPlace
from graphdriver.layer.erofs.record import Record
from graphdriver.layer.erofs.stored_tar import StoredTar
from graphdriver.layer.tree.copy import copy_metadata
from graphdriver.linux import xattr

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ImageSetup(HomeSetup):
    """The setup of a home with images.

    Attributes:
        found: what the probe found.
    """

    found: Found = field(default_factory=Found)


class ImageLayerMounts(LayerMounts):
    """The mounts of layers, which keep the images below them mounted.

    Args:
        layout: as for `LayerMounts`; likewise ``counts``, ``mounter`` and ``options``.
        images: the images' mounts.
    """

    def __init__(
        self,
        layout: ImageLayout,
        counts: ReferenceCounts,
        mounter: Mounter,
        options: Sequence[str],
        images: ImageMounts,
    ) -> None:
        super().__init__(layout, counts, mounter, options)
        self._image_layout = layout
        self._images = images

    def hold_lowers(self, id: str, lowers: Sequence[str]) -> None:
        """Mount the images among the lower directories, until `release_lowers`."""
        images = self._image_layout.images_in(lowers, id)
        self._image_layout.expect_trusted(images)
        self._images.hold(_user(id), images)

    def release_lowers(self, id: str) -> None:
        """Let the images go."""
        self._images.release(_user(id))


class ErofsLayers(OverlayLayers):
    """Layers with an upper directory above what was applied to them.

    Args:
        set_up: as for `OverlayLayers`; returns an `ImageSetup`.
    """

    layout_type: ClassVar[type[Layout]] = ImageLayout
    setup: ImageSetup
    _layout: ImageLayout

    def __init__(self, set_up: Callable[[str, Sequence[str]], ImageSetup]) -> None:
        super().__init__(set_up)
        self._images_of_homes: dict[str, ImageMounts] = {}
        self._kept: set[str] = set()
        """The users of `keep_mounts`."""
        self._shown: collections.Counter[str] = collections.Counter()
        """The Gets of layers that are shown without a mount, and so counted nowhere else."""

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        """Take up a home, and find the images that mounted layers use."""
        super().init(home, options, uid_maps, gid_maps)
        for id in self._store.layers():
            if not self._mounts.point(id):
                self._images.release(_user(id))
            else:
                # A layer with damaged files that is mounted goes on; its images may be unmounted.
                with contextlib.suppress(GraphDriverError, OSError):
                    self._images.note(_user(id), self._images_of(id))

    def make_mounts(self) -> LayerMounts:
        """Return the mounts of the layers, with those of the images below them."""
        self._applied = AppliedParts(self._layout, self.setup.found.way)
        self._in_place = PartsInPlace(self._layout)
        # After a second Init the streams of the first go on, and hold images.
        self._images = self._images_of_homes.setdefault(
            self._layout.home, ImageMounts(self._layout, self._mount_image)
        )
        return ImageLayerMounts(
            self._layout,
            self._counts,
            self.setup.mounter,
            self.setup.options.mount_options,
            self._images,
        )

    def _mount_image(self, id: str) -> None:
        self._applied.mount(id)  # in the way that the last Init found

    # --- which directories a mount has ------------------------------------------------------------

    def links_below_upper(self, id: str) -> list[str]:
        """Return the links of a layer's applied part, if it has one, and of the layers below."""
        lowers = self._layout.lowers(id)
        if not self._layout.is_applied(id):
            return lowers
        # The kernel ignores the opaque mark of a root: what it hides is left out instead.
        is_opaque = self._applied.record(id).root_opaque
        return [self._layout.applied_link(id), *(() if is_opaque else lowers)]

    def links_for_child(self, id: str) -> list[str]:
        """Return the links that show a layer to a child, without an upper directory that is empty."""
        links = self.links_below_upper(id)
        if self._layout.is_applied(id) and self.is_unwritten(id) and not self._mounts.point(id):
            return links
        return [self._layout.link_of(id), *links]

    def _images_of(self, id: str) -> list[str]:
        """Return the layers with images that a layer shows, its own among them."""
        return self._layout.images_in(self.links_below_upper(id), id)

    def is_pristine(self, id: str) -> bool:
        """Tell whether nothing was written or applied to a layer and it is not mounted."""
        return super().is_pristine(id) and not self._layout.is_applied(id)

    def is_applied(self, id: str) -> bool:
        """Tell whether a layer has an applied part."""
        return self._layout.is_applied(id)

    def is_unwritten(self, id: str) -> bool:
        """Tell whether a layer's upper directory is empty."""
        return self._layout.is_unwritten(id)

    # --- the applied part -------------------------------------------------------------------------

    def can_store(self, id: str) -> bool:
        """Tell whether a tar can be stored as the applied part of a layer.

        Raises:
            LayerNotFoundError: ``id`` does not exist.
        """
        self._store.path(id)
        if self._shown[id]:  # whoever got it would not see what is stored
            return False
        # With it the layer's own mount has one lower directory more; once it has a child, ``diff`` too.
        return self.is_pristine(id) and len(self._layout.lowers(id)) + 2 <= MAX_LOWERS

    def store(
        self, id: str, archive: ReadStream, uid_maps: Sequence[IDMap], gid_maps: Sequence[IDMap]
    ) -> int:
        """Store a layer's tar as its applied part; see `graphdriver.driver.Driver.apply_diff`."""
        self._make_mountable(id)
        size = self._applied.store(id, archive, uid_maps, gid_maps, lambda: self.opened_below(id))
        self._show_applied_root(id)
        return size

    def store_before_parent(
        self, id: str, archive: ReadStream, uid_maps: Sequence[IDMap], gid_maps: Sequence[IDMap]
    ) -> int:
        """Store the tar of a layer whose parent is not known, until `settle`."""
        self._make_mountable(id)
        return self._applied.store_before_parent(id, archive, uid_maps, gid_maps)

    def awaits_parent(self, id: str) -> bool:
        """Tell whether a layer without a parent can get one."""
        if not self._layout.is_applied(id):
            return super().awaits_parent(id)
        is_used = self._layout.lowers(id) or self._mounts.point(id)
        return self._layout.is_unwritten(id) and not is_used

    def settle(self, id: str) -> None:
        """Make the tree of a stored tar again, if it depends on the layers below."""
        self._images.end(id)  # the kernel would read the former index of the file
        self._applied.settle(id, lambda: self.opened_below(id))
        self._show_applied_root(id)

    def store_in_place(
        self, id: str, image: SharedImage, uid_maps: Sequence[IDMap], gid_maps: Sequence[IDMap]
    ) -> int:
        """Show a tar that stays in a store; see `graphdriver.in_place.ReadsInPlace`."""
        self._make_mountable(id)
        below = functools.partial(self.opened_below, id)
        size = self._in_place.store(id, image, uid_maps, gid_maps, below)
        self._show_applied_root(id)
        return size

    def leave_in_place(self, id: str, image: SharedImage) -> None:
        """Give up a layer's tar for one in a store; see `graphdriver.in_place.ReadsInPlace`."""
        if not self._layout.is_applied(id):
            raise UnsupportedError(f"leave layer {id} in place: no tar was applied to it")
        self._in_place.leave(id, image, functools.partial(self.opened_below, id))

    def tars_in_place(self, *, strictly: bool = False) -> Iterator[TarInPlace]:
        """Yield the layers whose tars are in a store; see `graphdriver.in_place.ReadsInPlace`."""
        left_out = () if strictly else (GraphDriverError, OSError)  # damaged, or just removed
        for id in self._store.layers():
            with contextlib.suppress(*left_out):
                if found := self._in_place.find(id):
                    yield found

    def judge_tar(self, id: str, wrong: str) -> None:
        """Note what is known of a tar in a store; see `graphdriver.in_place.ReadsInPlace`."""
        self._in_place.judge(id, wrong)

    def _make_mountable(self, id: str) -> None:
        """Make the link to a layer's applied part, and what the mount of a first layer needs."""
        if not self._layout.lowers(id):
            self._layout.mark_first(
                id
            )  # before the directory, which shows that there must be a list
            self.make_work(id)
        self._layout.make_applied_link(id)

    def _show_applied_root(self, id: str) -> None:
        """Give the upper directory the metadata of the root of what was applied."""
        with self.opened_applied(id) as root, self.opened(id) as upper:
            copy_metadata(upper, os.fstat(root), xattr.get_all(root))

    @contextlib.contextmanager
    def opened_applied(self, id: str) -> Iterator[int]:
        """Open the root of a layer's applied part for the length of a ``with`` block.

        Raises:
            GraphDriverError: its image cannot be mounted.
            OSError: it cannot be opened.
        """
        with self._images.held([id]), opened(self._layout.path(id, APPLIED)) as fd:
            yield fd

    @contextlib.contextmanager
    def opened_below(self, id: str) -> Iterator[list[int]]:
        """Open the directories of the layers below a layer, nearest first, with images mounted."""
        images = self._layout.images_in(self._layout.lowers(id), id)
        with self._images.held(images), super().opened_below(id) as fds:
            yield fds

    def stored_tar(self, id: str) -> StoredTar:
        """Return the tar that was applied to a layer, as it came."""
        return self._applied.stored_tar(id)

    def record(self, id: str) -> Record:
        """Return the record of a layer's applied part."""
        return self._applied.record(id)

    def usage(self, id: str) -> Usage:
        """Count the layer's directory and its applied part (`graphdriver.abilities.CountsUsage`)."""
        upper = super().usage(id)
        if not self._layout.is_applied(id):
            return upper
        applied = self._applied.usage(id)
        return Usage(upper.size + applied.size, upper.inodes + applied.inodes)

    def status(self) -> Sequence[tuple[str, str]]:
        """Return lines for ``docker info``: those of overlay2, and how images are mounted."""
        found = self.setup.found
        inodes = "unchanged by copy-up" if found.has_xino else "changed by copy-up (no xino)"
        stores = collections.Counter(one.image.directory for one in self.tars_in_place())
        return (
            *super().status(),
            ("Images", str(found)),
            ("Inode Numbers", inodes),
            *(("Layers in Place", f"{stores[store]} in {store}") for store in sorted(stores)),
        )

    def get_metadata(self, id: str) -> Mapping[str, str]:
        """Return the directories of the layer's mount, and the file of its applied part."""
        metadata = super().get_metadata(id)
        if not self._layout.is_applied(id):
            return metadata
        place = self._layout.place(id)
        tar = {"TarFile": f"{place.directory}/{place.name}"} if place else {}
        return {**metadata, "ImageFile": self._layout.path(id, IMAGE), **tar}

    # --- get and put ------------------------------------------------------------------------------

    def get(self, id: str, mount_label: str) -> str:
        """Return the layer's directory, mounted unless its ``diff`` holds the whole tree."""
        path = super().get(id, mount_label)
        if os.path.basename(path) == DIFF:
            self._shown[id] += 1
        return path

    def put(self, id: str) -> None:
        """Undo one `get`; the last one unmounts."""
        super().put(id)
        if self._shown[id] <= 1:
            del self._shown[id]
        else:
            self._shown[id] -= 1

    # --- mounts of other processes ----------------------------------------------------------------

    def keep_mounts(self, id: str, user: str) -> None:
        """Keep the images of a layer mounted for a user (`graphdriver.abilities.KeepsMounts`)."""
        self._store.path(id)
        self._images.note(_snapshot(user), self._images_of(id))
        self._kept.add(user)

    def release_mounts(self, user: str) -> None:
        """End a use of `keep_mounts`; the last one unmounts."""
        self._images.release(_snapshot(user))
        self._kept.discard(user)

    @contextlib.contextmanager
    def images_mounted(self, id: str) -> Iterator[None]:
        """Mount the images that a layer shows, for the length of a ``with`` block at least."""
        images = self._images_of(id)
        self._layout.expect_trusted(images)
        with self._images.held(images):
            yield

    # --- the end ----------------------------------------------------------------------------------

    def end_background_work(self) -> None:
        """Unmount the images that nobody uses (`graphdriver.abilities.WorksInBackground`)."""
        for images in self._images_of_homes.values():
            images.unmount_unused()

    def release_leftovers(self) -> None:
        """Unmount parents, and images, that are not in use."""
        super().release_leftovers()
        self._images.unmount_unused(self._store.layers())

    def _remove(self, id: str) -> None:
        del self._shown[id]
        self._images.release(_user(id))  # which somebody else may have unmounted
        if self.exists(id):
            self._images.end(id)
        super()._remove(id)

    def cleanup(self) -> None:
        """Unmount all layers and images, and wait until removed layers are deleted."""
        try:
            super().cleanup()
        finally:
            for user in list(self._kept):
                self.release_mounts(user)
            self._images.unmount_unused(self._store.layers())


def _user(id: str) -> str:
    """Return the name of a mounted layer as a user of images."""
    return f"layer {id}"


def _snapshot(user: str) -> str:
    """Return the name of a user of `ErofsLayers.keep_mounts` as a user of images."""
    return f"snapshot {user}"
