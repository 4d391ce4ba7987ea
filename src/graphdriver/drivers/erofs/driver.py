"""The driver erofs: a layer's tar is stored as it came, and its image is mounted.

An applied layer that nobody wrote to since is exactly its tar: Diff against the parent returns the
bytes that came, and Changes are read in the image, as overlay2 reads them in an upper directory. A
layer that was only written to is a layer of overlay2. The naive differ does the rest: diffs of a layer
that was applied and written to, and diffs against another layer.
"""

# ruff: noqa: D102 - graphdriver.driver documents the methods
from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, Final

from graphdriver.abilities import Mount, Suitability
from graphdriver.driver import Change, ClosableStream, Needs, ReadStream
from graphdriver.drivers.erofs import reading
from graphdriver.drivers.erofs.checking import ImageChecks, wrong_content
from graphdriver.drivers.erofs.layers import ErofsLayers, ImageSetup
from graphdriver.drivers.erofs.layout import ImageLayout
from graphdriver.drivers.erofs.probe import Found, expect_erofs, probe_erofs
from graphdriver.drivers.options import Option
from graphdriver.drivers.overlay.checking import OverlayChecks
from graphdriver.drivers.overlay.driver import OverlayDriver
from graphdriver.drivers.overlay.kernel_mounter import KernelMounter
from graphdriver.drivers.overlay.layers import OverlayLayers
from graphdriver.drivers.overlay.mounter import Mounter
from graphdriver.drivers.overlay.options import MOUNTOPT, SIZE, VOLATILE, XINO, HomeOptions
from graphdriver.drivers.overlay.probe import expect_overlayfs
from graphdriver.drivers.probe_record import probe_or_recall
from graphdriver.errors import UnsupportedError
from graphdriver.homes import SizedChange, StoredImage, StoredLayer
from graphdriver.in_place import SharedImage, TarInPlace
from graphdriver.layer.change_list import ChangeList, changed_size
from graphdriver.layer.changes import compare
from graphdriver.layer.erofs.record import Kind
from graphdriver.layer.erofs.stored_tar import HAS_FAST_SUMS
from graphdriver.layer.overlay.changes import compare_upper

_WITHOUT_XINO: Final = (
    "files of one container have several device numbers, and the inode numbers of directories and of"
    " files change when they are written to"
)

_log = logging.getLogger(__name__)


class ErofsDriver(OverlayDriver):
    """Layers as stored tars, mounted as images below the kernel's overlayfs."""

    driver_name: ClassVar[str] = "erofs"
    # Root fills images beyond the quotas of their files' owners.
    needs: ClassVar[Needs] = Needs(frozenset({"CAP_SYS_RESOURCE"}))
    options: ClassVar[Sequence[Option]] = (MOUNTOPT, SIZE, VOLATILE)
    _layers: ErofsLayers

    def make_layers(self) -> OverlayLayers:
        """Return the layers that the driver keeps."""
        return ErofsLayers(self.set_up)

    @classmethod
    def probe(cls, home: str) -> Suitability:
        """Tell how well the driver suits a directory, which exists."""
        found = probe_erofs(home)
        reason = f"layers are stored as they come, on {found.backing}; images are {found}"
        if not HAS_FAST_SUMS:
            reason += "; pip install 'graphdriver[erofs]' makes diffs twice as fast"
        return Suitability(24, reason)

    @classmethod
    def check(cls, options: Sequence[str]) -> None:
        """Refuse what would be refused in any home."""
        HomeOptions.parse(options, cls.options, cls.driver_name)
        expect_overlayfs(cls.driver_name)
        expect_erofs()

    @classmethod
    def make_mounter(cls, home: str) -> Mounter:
        """Return the mounter of a home."""
        return KernelMounter(home)

    @classmethod
    def set_up(cls, home: str, options: Sequence[str]) -> ImageSetup:
        """Probe a home by mounts in it; see `OverlayDriver.set_up`."""
        parsed = HomeOptions.parse(options, cls.options, cls.driver_name)
        found = Found.parse(probe_or_recall(home, lambda: probe_erofs(home, parsed).record()))
        if found.has_xino:
            own = dataclasses.replace(parsed, mount_options=(XINO, *parsed.mount_options))
        else:
            _log.warning(
                "erofs: %s: the kernel does not support the option %s: %s",
                home,
                XINO,
                _WITHOUT_XINO,
            )
            own = parsed
        mounter = cls.make_mounter(home)
        return ImageSetup(cls.driver_name, mounter, own, found.backing, found=found)

    @classmethod
    def stored_layers(cls, home: str) -> Iterator[StoredLayer]:
        """Yield all layers of a home, served or not (`graphdriver.homes.ReadsHome`)."""
        return reading.stored_layers(home)

    @classmethod
    def stored_changes(cls, home: str, id: str, parent: str) -> Iterator[SizedChange]:
        """Yield the changes of a layer, served or not (`graphdriver.homes.ReadsChanges`)."""
        return reading.stored_changes(home, id, parent)

    @classmethod
    def checks_of(cls, home: str) -> OverlayChecks:
        """Return the checks of a home."""
        return ImageChecks(ImageLayout(home))

    @classmethod
    def wrong_content(cls, home: str, id: str) -> str | None:
        """Compare a layer's tar with its record (`graphdriver.homes.ChecksContent`)."""
        return wrong_content(ImageLayout(home), id)

    @classmethod
    def stored_image(cls, home: str, id: str) -> StoredImage | None:
        """Open the image of a layer (`graphdriver.homes.StoresImages`)."""
        layout = ImageLayout(home)
        if not layout.is_applied(id):
            return None
        record = layout.record(id)
        if record.kind is not Kind.IMAGE or layout.place(id):
            return None
        tar = layout.open_tar(id, record) if record.has_own_tar else None
        try:
            return StoredImage(layout.open_image(id), record.text(), tar)
        except BaseException:
            if tar is not None:
                os.close(tar)
            raise

    def opened_below(self, id: str) -> AbstractContextManager[Sequence[int]]:
        """Open the directories of the layers below (`graphdriver.abilities.OpensLayersBelow`)."""
        return self._layers.opened_below(id)

    def mounts(self, id: str, *, read_only: bool) -> Sequence[Mount]:
        """Return the layer's mount without making it, with the images below it mounted."""
        with self._layers.images_mounted(id):
            return super().mounts(id, read_only=read_only)

    def apply_before_parent(self, id: str, archive: ReadStream) -> int:
        """Store the tar of a layer whose parent is not known (`TakesParentLater`)."""
        if not self._layers.can_store(id):
            return super().apply_before_parent(id, archive)
        return self._layers.store_before_parent(id, archive, self._uid_maps, self._gid_maps)

    def settle(self, id: str, parent: str) -> None:
        """Give a layer its parent (`TakesParentLater`)."""
        if not self._layers.is_applied(id):
            super().settle(id, parent)
            return
        if parent:
            self._layers.take_parent(id, parent)
        self._layers.settle(id)

    def diff(self, id: str, parent: str) -> ClosableStream:
        if self._is_as_applied(id, parent):
            return self._layers.stored_tar(id)
        return super().diff(id, parent)

    def changes(self, id: str, parent: str) -> Iterable[Change]:
        if not self._is_as_applied(id, parent):
            return super().changes(id, parent)
        with self._layers.opened_applied(id) as root:
            if not parent:
                return ChangeList(compare(root, None))
            with self._layers.opened_below(id) as lowers:
                return ChangeList(compare_upper(root, lowers, self._layers.marks))

    def diff_size(self, id: str, parent: str) -> int:
        if not self._is_as_applied(id, parent):
            return super().diff_size(id, parent)
        if not parent:
            return self._layers.record(id).changed_size
        # A tar may have files that are the same in the layers below: they are no changes.
        with self._layers.opened_applied(id) as root, self._layers.opened_below(id) as lowers:
            return changed_size(compare_upper(root, lowers, self._layers.marks))

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        self._layers.refuse_if_parent(id)
        if self._layers.can_store(id):
            return self._layers.store(id, archive, self._uid_maps, self._gid_maps)
        return super().apply_diff(id, parent, archive)

    def apply_in_place(self, id: str, parent: str, image: SharedImage) -> int:
        """Fill a layer with a tar that stays in a store (`graphdriver.in_place.ReadsInPlace`)."""
        self._layers.refuse_if_parent(id)
        if not self._layers.can_store(id):
            raise UnsupportedError(f"layer {id} is not empty: its tar cannot be read in place")
        return self._layers.store_in_place(id, image, self._uid_maps, self._gid_maps)

    def leave_in_place(self, id: str, image: SharedImage) -> None:
        """Give up a layer's tar for one in a store (`graphdriver.in_place.ReadsInPlace`)."""
        self._layers.leave_in_place(id, image)

    def tars_in_place(self, *, strictly: bool = False) -> Iterator[TarInPlace]:
        """Yield the layers whose tars are in a store (`graphdriver.in_place.ReadsInPlace`)."""
        return self._layers.tars_in_place(strictly=strictly)

    def judge_tar(self, id: str, wrong: str) -> None:
        """Note what is known of a tar in a store (`graphdriver.in_place.ReadsInPlace`)."""
        self._layers.judge_tar(id, wrong)

    def _is_as_applied(self, id: str, parent: str) -> bool:
        """Tell whether a diff is exactly what was applied to the layer."""
        return (
            parent == self._layers.parent_of(id)
            and self._layers.is_applied(id)
            and self._layers.is_unwritten(id)
        )

    def _is_native_against(self, id: str, parent: str) -> bool:
        return super()._is_native_against(id, parent) and not self._layers.is_applied(id)
