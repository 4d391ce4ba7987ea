"""The applied part of a layer: the stored tar, its record, and the tree that they show.

Usually the tar is part of an image, which is mounted on ``applied``. A layer that an image cannot hold
is unpacked there, from the stored tar. Of a tar that stays in a store
`graphdriver.drivers.erofs.in_place` makes the image, and this module mounts it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Final

from graphdriver.abilities import Usage
from graphdriver.driver import IDMap, ReadStream
from graphdriver.drivers.erofs.layout import APPLIED, IMAGE, TAR, ImageLayout
from graphdriver.drivers.erofs.mounting import Way, mount_image
from graphdriver.drivers.overlay.layout import DIFF
from graphdriver.errors import BrokenStreamError, GraphDriverError, LayerDamagedError
from graphdriver.files.directories import opened, why_no_directory
from graphdriver.files.file_stream import FileStream
from graphdriver.layer.change_list import changed_size
from graphdriver.layer.erofs.below import OpenBelow
from graphdriver.layer.erofs.record import Kind, Record
from graphdriver.layer.erofs.store import (
    NotHeldError,
    describe_root,
    index_again,
    store_alone,
    store_layer,
    stored_tar,
)
from graphdriver.layer.erofs.stored_tar import StoredTar
from graphdriver.layer.erofs.structures import BLOCK
from graphdriver.layer.erofs.whole import has_device, why_no_tar, why_not_whole
from graphdriver.layer.overlay.changes import compare_upper
from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.overlay.parentless import ParentlessDirectory, Unsettled
from graphdriver.layer.overlay.settle import settle
from graphdriver.layer.tree.copy import copy_metadata
from graphdriver.layer.tree.inodes import disk_usage
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.unpack import unpack
from graphdriver.linux import xattr
from graphdriver.steps import step

_IMAGE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_TARGET: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK: Final = 512  # the unit of st_blocks (inode(7))

_log = logging.getLogger(__name__)


class AppliedParts:
    """The applied parts of the layers in a home.

    Args:
        layout: the home's files.
        way: how images are mounted.
    """

    def __init__(self, layout: ImageLayout, way: Way) -> None:
        self._layout = layout
        self._way = way

    def store(
        self,
        id: str,
        archive: ReadStream,
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
        below: OpenBelow,
    ) -> int:
        """Store a layer's tar, and make the tree that it shows.

        After an error the layer is incomplete, and can only be removed.

        Args:
            id: the layer; nothing was written or applied to it.
            archive: its tar.
            uid_maps: user ids in the tar to those on disk.
            gid_maps: likewise for groups.
            below: opens the layers below.

        Returns:
            The sum of the sizes in the tar's headers, in bytes.

        Raises:
            BadArchiveError: the tar is damaged or hostile.
            BrokenStreamError: it broke off.
            OSError: it cannot be written.
        """
        with self._new_files(id, archive) as (fd, tar_fd):
            try:
                record = store_layer(
                    archive, fd, uid_maps=uid_maps, gid_maps=gid_maps, below=below, tar_fd=tar_fd
                )
            except NotHeldError as error:
                _log.info("layer %s is unpacked: %s", id, error)
                record = self._unpack(id, error.record, below)
        self._layout.write_record(id, record)
        return record.size

    def store_before_parent(
        self,
        id: str,
        archive: ReadStream,
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> int:
        """Store the tar of a layer whose parent is not known, until `settle`.

        Arguments, result and errors are those of `store`. The image is that of a layer without a
        parent.
        """
        with self._new_files(id, archive) as (fd, tar_fd):
            try:
                record, names_matter = store_alone(
                    archive, fd, uid_maps=uid_maps, gid_maps=gid_maps, tar_fd=tar_fd
                )
                if record.facts and not names_matter:
                    self._layout.write_unsettled(id, Unsettled())
            except NotHeldError as error:
                # A tar that an image cannot hold may be damaged: the unpacker tells.
                record = self._unpack_before_parent(id, error.record)
        self._layout.write_record(id, record)
        return record.size

    def _unpack_before_parent(self, id: str, stored: Record) -> Record:
        with (
            opened(self._layout.path(id, APPLIED)) as root,
            contextlib.closing(self._stored(id, stored)) as archive,
        ):
            form = ParentlessDirectory(root)
            done = unpack(
                archive,
                root,
                uid_maps=stored.uid_maps,
                gid_maps=stored.gid_maps,
                form=lambda _root: form,
            )
        form.unsettled.describes_root = done.describes_root
        self._layout.write_unsettled(id, form.unsettled)
        return dataclasses.replace(stored, size=done.size)

    def settle(self, id: str, below: OpenBelow) -> None:
        """Make what a stored tar shows again, if it depends on the layers below.

        After an error the layer is incomplete, and can only be removed.

        Args:
            id: a layer that `store_before_parent` stored; its image is not mounted.
            below: opens the layers below, which are known now.

        Raises:
            BadArchiveError: a hard link has no target.
            OSError: it cannot be written.
        """
        record = self.record(id)
        # Without facts it depends on its tar alone; with nothing below it is right as it was made.
        if record.kind is Kind.TREE or (record.facts and self._layout.lowers(id)):
            self._layout.write_record(id, self._settled(id, record, below))
        self._layout.remove_unsettled(id)

    def _settled(self, id: str, record: Record, below: OpenBelow) -> Record:
        with contextlib.ExitStack() as held:
            fd = self._layout.open_image(id, writable=True)
            held.callback(os.close, fd)
            # Of an image it is noted that no names below matter.
            if record.kind is Kind.IMAGE and self._layout.is_unsettled(id):
                described = describe_root(record, fd, below=below)
                if described:
                    return described
            tar_fd = self._own_tar(id, record, held)
            try:
                settled = index_again(record, fd, below=below, tar_fd=tar_fd)
            except NotHeldError as error:
                _log.info("layer %s is unpacked: %s", id, error)
                if record.kind is Kind.TREE:
                    return self._settle_tree(id, record, below)
                return self._unpack(id, error.record, below)
        if record.kind is Kind.TREE:
            self._remove_tree(id)
        return settled

    def _remove_tree(self, id: str) -> None:
        """Empty ``applied``: an image is mounted there."""
        with opened(self._layout.path(id)) as layer:
            remove_tree(layer, os.fsencode(APPLIED))
            os.mkdir(APPLIED, 0o755, dir_fd=layer)

    def _settle_tree(self, id: str, record: Record, below: OpenBelow) -> Record:
        unsettled = self._layout.unsettled(id)
        maps = record.uid_maps, record.gid_maps
        with opened(self._layout.path(id, APPLIED)) as root, below() as lowers:
            settle(root, lowers, unsettled, uid_maps=maps[0], gid_maps=maps[1])
            if not unsettled.describes_root and lowers:
                copy_metadata(root, os.fstat(lowers[0]), xattr.get_all(lowers[0]))
            changed = changed_size(compare_upper(root, lowers))
        return dataclasses.replace(record, changed_size=changed)

    @contextlib.contextmanager
    def _new_files(self, id: str, archive: ReadStream) -> Iterator[tuple[int, int | None]]:
        """Make the directory ``applied`` and the files of a layer, for a ``with`` block.

        Yields:
            The empty file, and the file with the tar, if that need not be copied.
        """
        # First, so that a layer without a record is seen to be incomplete.
        os.mkdir(self._layout.path(id, APPLIED), 0o755)
        with contextlib.ExitStack() as held:
            fd = os.open(self._layout.path(id, IMAGE), _NEW, 0o600)
            held.callback(os.close, fd)
            tar_fd = self._shared_tar(id, archive)
            if tar_fd is not None:
                held.callback(os.close, tar_fd)
            yield fd, tar_fd

    def _shared_tar(self, id: str, archive: ReadStream) -> int | None:
        """Open a layer's tar by a name of our own, if it is a file that need not be copied."""
        path = self._layout.path(id, TAR)
        if not isinstance(archive, FileStream) or not archive.link(path):
            return None
        fd = os.open(path, _IMAGE)
        if os.fstat(fd).st_size % BLOCK == 0:
            return fd
        os.close(fd)  # of a device the kernel reads whole blocks only
        os.unlink(path)
        return None

    def _unpack(
        self,
        id: str,
        stored: Record,
        below: OpenBelow,
    ) -> Record:
        """Unpack a stored tar below ``applied``; return the record of the tree."""
        with (
            opened(self._layout.path(id, APPLIED)) as root,
            opened(self._layout.path(id, DIFF)) as upper,
            contextlib.closing(self._stored(id, stored)) as archive,
            below() as lowers,
        ):
            # The root has the metadata that Create set, unless the tar describes it.
            copy_metadata(root, os.fstat(upper), xattr.get_all(upper))
            form = functools.partial(UpperDirectory, lowers=lowers)
            done = unpack(
                archive, root, uid_maps=stored.uid_maps, gid_maps=stored.gid_maps, form=form
            )
            changed = changed_size(compare_upper(root, lowers))
        return dataclasses.replace(stored, size=done.size, changed_size=changed)

    def record(self, id: str) -> Record:
        """Return the record of a layer's applied part; errors as for `ImageLayout.record`."""
        return self._layout.record(id)

    def mount(self, id: str) -> None:
        """Mount a layer's image on ``applied``; do nothing for a layer that is unpacked there.

        Raises:
            LayerDamagedError: its record or its image is damaged.
            GraphDriverError: the kernel refuses it.
            OSError: its files cannot be opened now.
        """
        record = self.record(id)
        point = self._layout.path(id, APPLIED)
        if record.kind is Kind.TREE:
            if why_no_directory(point):
                self._expect_sound(id)
            return
        with contextlib.suppress(FileExistsError):  # it is there, unless somebody removed it
            os.mkdir(point, 0o755)
        with contextlib.ExitStack() as held:
            image = self._whole_image(id, record)
            held.callback(os.close, image)
            tar = self._device(id, record, image, held)
            if tar is not None and record.has_own_tar and why_no_tar(tar, record):
                self._expect_sound(id)
            try:
                target = os.open(point, _TARGET)
            except OSError:
                self._expect_sound(id)
                raise
            held.callback(os.close, target)
            try:
                with step("mount"):
                    mount_image(image, target, self._way, tar)
            except GraphDriverError as error:
                self._expect_sound(id)
                error.problem = f"what was applied to layer {id} cannot be shown: {error.problem}"
                check = f"if it is damaged, graphdriver fsck {self._layout.home} tells"
                error.hint = "; ".join(filter(None, (error.hint, check)))
                raise

    def _whole_image(self, id: str, record: Record) -> int:
        """Open the file with a layer's index, and check that it looks whole; the caller closes it.

        The kernel would mount the image of another layer, too.
        """
        fd = self._layout.open_image(id)
        try:
            if why_not_whole(fd, record):
                self._expect_sound(id)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _device(
        self, id: str, record: Record, image: int, held: contextlib.ExitStack
    ) -> int | None:
        """Open the second file of a layer's image, if it has one, until a stack is closed."""
        if not has_device(image):
            return None
        if not record.has_own_tar and self._layout.place(id) is None:
            self._expect_sound(id)  # it would be mounted upon itself
        fd = self._layout.open_tar(id, record)
        held.callback(os.close, fd)
        return fd

    def _own_tar(self, id: str, record: Record, held: contextlib.ExitStack) -> int | None:
        """Open the file with a layer's tar, if it is one of its own, until a stack is closed."""
        if not record.has_own_tar:
            return None
        fd = self._layout.open_tar(id, record)
        held.callback(os.close, fd)
        return fd

    def _stored(self, id: str, record: Record) -> StoredTar:
        """Open a layer's tar, given the record that it will have."""
        return stored_tar(record, self._layout.open_tar(id, record))

    def _expect_sound(self, id: str) -> None:
        for damage in self._layout.lost_content(id):
            raise LayerDamagedError.of(id, damage.text, self._layout.home)

    def stored_tar(self, id: str) -> StoredTar:
        """Return a layer's tar as it came; errors as for `mount`."""
        # Its own checksums are enough: it may be whole though the image around it is not.
        record = self.record(id)
        return _LayerTar(id, self._layout, record, self._layout.open_tar(id, record))

    def usage(self, id: str) -> Usage:
        """Count the files of a layer's applied part, and the tree if it is unpacked."""
        record = self.record(id)
        found = [self._usage_of(self._layout.open_image(id))]
        if record.has_own_tar:
            found.append(self._usage_of(self._layout.open_tar(id, record)))
        if record.kind is Kind.TREE:
            with opened(self._layout.path(id, APPLIED)) as root:
                found.append(disk_usage(root))
        return Usage(sum(one.size for one in found), sum(one.inodes for one in found))

    @staticmethod
    def _usage_of(fd: int) -> Usage:
        """Count a file, and close it."""
        try:
            return Usage(os.fstat(fd).st_blocks * _BLOCK, 1)
        finally:
            os.close(fd)


class _LayerTar(StoredTar):
    """The stored tar of a layer, whose damage names the layer."""

    def __init__(self, id: str, layout: ImageLayout, record: Record, fd: int) -> None:
        is_local = layout.place(id) is None
        place = record.tar_offset, record.tar_size, record.pieces
        super().__init__(fd, *place, is_local=is_local)
        self._id = id
        self._home = layout.home

    def read(self, n: int, /) -> bytes:
        try:
            return super().read(n)
        except BrokenStreamError as error:
            wrong = error.problem.replace("the layer's", "its", 1)
            raise LayerDamagedError.of(self._id, wrong, self._home) from error
