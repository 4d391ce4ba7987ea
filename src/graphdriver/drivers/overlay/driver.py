"""What drivers on overlays have in common: diffs that are read and written in upper folders.

What is applied, listed and packed is read and written in a layer's own folder alone, without a mount
(`graphdriver.layer.overlay.form`, `graphdriver.layer.overlay.pack`), where that holds no more than the
marks that are known; against another layer than the direct
parent, or elsewhere, it is the naive differ's affair.
"""

# ruff: noqa: D102 - the methods are told in graphdriver.driver
from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from graphdriver.driver import Change, ClosableStream, Mount, ReadStream
from graphdriver.drivers.overlay.ground import Ground
from graphdriver.drivers.overlay.layers import OverlayLayers
from graphdriver.drivers.overlay.named_mounts import name_mount
from graphdriver.layer.change_list import ChangeList, changed_size
from graphdriver.layer.overlay.changes import compare_upper
from graphdriver.layer.overlay.form import MountedOverlay, UpperDirectory
from graphdriver.layer.overlay.pack import UpperPacker
from graphdriver.layer.pack import pack
from graphdriver.layer.unpack import unpack
from graphdriver.layer.write.form import Form
from graphdriver.naive import NaiveDiffDriver


class OverlayDriver(NaiveDiffDriver):
    """Layers upon each other by overlays; a driver says how they are mounted."""

    mount_type: ClassVar[str] = "overlay"
    """What mount(8) calls such mounts."""

    def __init__(self) -> None:
        self._layers = OverlayLayers(self.survey)
        super().__init__(self._layers)

    @classmethod
    @abc.abstractmethod
    def survey(cls, home: str, options: Sequence[str]) -> Ground:
        """Look at a home, which exists, and say how its layers are mounted.

        Raises:
            UnsupportedError: an option is not known, or the home cannot serve.
        """

    def mounts(self, id: str, *, read_only: bool) -> Sequence[Mount]:
        """Name the layer's mount instead of making it (`graphdriver.driver.NamesMounts`)."""
        folders = self._layers.folders(id)
        return (name_mount(*folders, read_only=read_only, kind=self.mount_type),)

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
            self._layers.refuse_if_stood_upon(id)
            if self._layers.ground.is_native and self._layers.is_pristine(id):
                with self._layers.opened_below(id) as lowers:
                    form = functools.partial(
                        UpperDirectory, lowers=lowers, marks=self._layers.marks
                    )
                    return self._unpack(archive, upper, form)
        # Somebody has written to it through its mount, behind which nothing may be changed.
        with self._root(id) as root:
            return self._unpack(archive, root, MountedOverlay)

    def _is_native_against(self, id: str, parent: str) -> bool:
        is_direct = parent == self._layers.parent_of(id)
        return is_direct and self._layers.ground.is_native

    def _unpack(self, archive: ReadStream, root: int, form: Callable[[int], Form]) -> int:
        maps = self._uid_maps, self._gid_maps
        return unpack(archive, root, uid_maps=maps[0], gid_maps=maps[1], form=form).size
