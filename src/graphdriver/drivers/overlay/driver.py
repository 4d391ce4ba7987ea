"""The base class of the overlay family's drivers: diffs that are read and written in upper directories.

A layer's own directory holds exactly the layer's changes against its parent. So a diff against the
parent needs no mount: it is read there, and a tar is unpacked there
(`graphdriver.layer.overlay.pack`, `graphdriver.layer.overlay.form`). The naive differ, which
compares mounted trees, does the rest: diffs against another layer, layers that were written to
through a mount, and homes with unknown marks in their upper directories (`HomeSetup.is_native`).
"""

# ruff: noqa: D102 - graphdriver.driver documents the methods
from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from graphdriver.abilities import Mount
from graphdriver.driver import Change, ClosableStream, ReadStream
from graphdriver.drivers.options import Option
from graphdriver.drivers.overlay import reading
from graphdriver.drivers.overlay.checking import OverlayChecks
from graphdriver.drivers.overlay.layers import HomeSetup, OverlayLayers
from graphdriver.drivers.overlay.layout import Layout
from graphdriver.drivers.overlay.mounter import Mounter, named_mount
from graphdriver.drivers.overlay.reference_counts import kept_counts
from graphdriver.files.directories import why_no_directory
from graphdriver.homes import Damage, SizedChange, StoredLayer
from graphdriver.layer.change_list import ChangeList, changed_size
from graphdriver.layer.overlay.changes import compare_upper
from graphdriver.layer.overlay.form import MountedOverlay, UpperDirectory
from graphdriver.layer.overlay.pack import UpperPacker
from graphdriver.layer.overlay.parentless import ParentlessDirectory
from graphdriver.layer.overlay.settle import settle
from graphdriver.layer.pack import pack
from graphdriver.layer.unpack import unpack
from graphdriver.layer.write.form import Form
from graphdriver.naive import NaiveDiffDriver


class OverlayDriver(NaiveDiffDriver):
    """A driver of the overlay family; its subclasses differ in how they mount."""

    options: ClassVar[Sequence[Option]] = ()
    """The options of a home that the driver takes."""

    mount_type: ClassVar[str] = "overlay"
    """The filesystem type of the mounts that are named for containerd, as mount(8) takes it."""

    def __init__(self) -> None:
        self._layers = self.make_layers()
        super().__init__(self._layers)

    def make_layers(self) -> OverlayLayers:
        """Return the layers that the driver keeps."""
        return OverlayLayers(self.set_up)

    @classmethod
    @abc.abstractmethod
    def make_mounter(cls, home: str) -> Mounter:
        """Return the mounter of a home; nothing is mounted or written."""

    @classmethod
    @abc.abstractmethod
    def set_up(cls, home: str, options: Sequence[str]) -> HomeSetup:
        """Probe a home, which exists, and return how its layers are mounted.

        Raises:
            UnsupportedError: an option is unknown, or the home cannot be served.
        """

    @classmethod
    def stored_layers(cls, home: str) -> Iterator[StoredLayer]:
        """Yield all layers of a home, served or not (`graphdriver.homes.ReadsHome`)."""
        return reading.stored_layers(Layout(home))

    @classmethod
    def stored_changes(cls, home: str, id: str, parent: str) -> Iterator[SizedChange]:
        """Yield the changes of a layer, served or not (`graphdriver.homes.ReadsChanges`)."""
        return reading.stored_changes(Layout(home), id, cls.make_mounter(home).marks)

    @classmethod
    def check_home(cls, home: str) -> Iterator[Damage]:
        """Yield what is wrong in a home (`graphdriver.homes.ChecksHome`)."""
        return cls.checks_of(home).check()

    @classmethod
    def mend_home(cls, home: str, damage: Damage) -> None:
        """Repair one damage (`graphdriver.homes.ChecksHome`)."""
        cls.checks_of(home).mend(damage)

    @classmethod
    def restore_parent(cls, home: str, id: str, parent: str) -> None:
        """Write a layer's list of lower layers again (`graphdriver.homes.RestoresParent`)."""
        cls.checks_of(home).restore_parent(id, parent)

    @classmethod
    def checks_of(cls, home: str) -> OverlayChecks:
        """Return the checks of a home."""
        return OverlayChecks(Layout(home))

    @classmethod
    def held_layers(cls, home: str) -> Mapping[str, int]:
        """Return the reference counts on disk (`graphdriver.homes.CountsHeld`)."""
        return {id: count for id, count in kept_counts(home).items() if count}

    def mounts(self, id: str, *, read_only: bool) -> Sequence[Mount]:
        """Return the layer's mount without making it (`graphdriver.abilities.NamesMounts`)."""
        diff, work, lowers = self._layers.directories(id)
        # Nobody could tell what was lost when somebody else's mount fails.
        if any(map(why_no_directory, (diff, *([work] if lowers else ()), *lowers))):
            self._layers.expect_sound(id)
        return (named_mount(diff, work, lowers, read_only=read_only, kind=self.mount_type),)

    def diff(self, id: str, parent: str) -> ClosableStream:
        if not self._is_native_against(id, parent):
            return super().diff(id, parent)
        with self._layers.opened(id) as upper:
            if not parent:
                return pack(upper, None, uid_maps=self._uid_maps, gid_maps=self._gid_maps)
            return UpperPacker(
                upper,
                self._uid_maps,
                self._gid_maps,
                self._layers.marks,
                lambda: self._layers.opened_below(id),
            )

    def changes(self, id: str, parent: str) -> Iterable[Change]:
        if not parent or not self._is_native_against(id, parent):
            return super().changes(id, parent)
        with self._layers.opened(id) as upper, self._layers.opened_below(id) as lowers:
            return ChangeList(compare_upper(upper, lowers, self._layers.marks))

    def diff_size(self, id: str, parent: str) -> int:
        if not parent or not self._is_native_against(id, parent):
            return super().diff_size(id, parent)
        with self._layers.opened(id) as upper, self._layers.opened_below(id) as lowers:
            return changed_size(compare_upper(upper, lowers, self._layers.marks))

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        with self._layers.opened(id) as upper:
            self._layers.refuse_if_parent(id)
            if self._layers.setup.is_native and self._layers.is_pristine(id):
                with self._layers.opened_below(id) as lowers:
                    form = functools.partial(
                        UpperDirectory, lowers=lowers, marks=self._layers.marks
                    )
                    return self._unpack(archive, upper, form)
        # Somebody wrote to the layer through its mount. overlayfs forbids changes in an upper
        # directory behind a mount, so the tar is unpacked through the mount as well.
        with self._root(id) as root:
            return self._unpack(archive, root, MountedOverlay)

    def apply_before_parent(self, id: str, archive: ReadStream) -> int:
        """Write a tar into a new layer whose parent is not known (`TakesParentLater`)."""
        if not self._layers.setup.is_native or not self._layers.is_pristine(id):
            return self.apply_diff(id, "", archive)  # such a layer cannot get a parent
        with self._layers.opened(id) as upper:
            form = ParentlessDirectory(upper, self._layers.marks)
            maps = self._uid_maps, self._gid_maps
            done = unpack(
                archive, upper, uid_maps=maps[0], gid_maps=maps[1], form=lambda _root: form
            )
        form.unsettled.describes_root = done.describes_root
        self._layers.note_unsettled(id, form.unsettled)
        return done.size

    def awaits_parent(self, id: str) -> bool:
        """Tell whether a layer without a parent can get one (`TakesParentLater`)."""
        return self._layers.awaits_parent(id)

    def settle(self, id: str, parent: str) -> None:
        """Give a layer its parent (`TakesParentLater`)."""
        unsettled = self._layers.unsettled(id)
        if parent:
            self._layers.take_parent(id, parent)
        with self._layers.opened(id) as upper, self._layers.opened_below(id) as lowers:
            settle(
                upper,
                lowers,
                unsettled,
                marks=self._layers.marks,
                uid_maps=self._uid_maps,
                gid_maps=self._gid_maps,
            )
        if parent and not unsettled.describes_root:
            self._layers.copy_root(id, parent)
        self._layers.remove_unsettled(id)

    def _is_native_against(self, id: str, parent: str) -> bool:
        is_direct = parent == self._layers.parent_of(id)
        return is_direct and self._layers.setup.is_native

    def _unpack(self, archive: ReadStream, root: int, form: Callable[[int], Form]) -> int:
        maps = self._uid_maps, self._gid_maps
        return unpack(archive, root, uid_maps=maps[0], gid_maps=maps[1], form=form).size
