"""A chain of layers, each applied both ways: unpacked as overlay2 does it, and stored as an image."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from graphdriver.driver import IDMap, host_root
from graphdriver.drivers.erofs.mounting import Way, mount_image
from graphdriver.errors import GraphDriverError
from graphdriver.layer.change_list import changed_size
from graphdriver.layer.erofs.record import Kind, Record
from graphdriver.layer.erofs.store import NotHeldError, store_layer, stored_tar
from graphdriver.layer.overlay.changes import compare_upper
from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.tree.copy import copy_metadata
from graphdriver.layer.tree.walk import walk
from graphdriver.layer.unpack import unpack
from graphdriver.linux import xattr
from graphdriver.linux.mount import MNT_DETACH, unmount
from graphdriver.linux.regular_file import open_regular
from tests.layer.conftest import remove
from tests.layer.listed import upper_changes
from tests.support.overlays import mounted_overlay, opened

Maps = tuple[IDMap, ...]


_MOST = 16 << 20
"""How much of a file is read: a sparse one may claim to have exabytes."""


class BothWays:
    """Two chains of the same layers.

    Args:
        place: an existing directory, in which all of it is.
        maps: of users and of groups.

    Attributes:
        trees: their upper directories, nearest first.
        images: what an erofs driver mounts of them, nearest first: mounted images, or the tree of a
            layer that an image cannot hold.
        records: of the images, nearest first.
    """

    def __init__(self, place: Path, maps: Maps = ()) -> None:
        self.place = place
        self.trees: list[Path] = []
        self.images: list[Path] = []
        self.records: list[Record] = []
        self.problem: GraphDriverError | None = None
        self._ends: list[bool] = []
        self._directory = Path(tempfile.mkdtemp(dir=place))
        self._maps = maps
        self._began = time.time_ns() - 20_000_000  # files are stamped by a coarser clock
        self._mounted = contextlib.ExitStack()

    def apply(self, tar: bytes) -> str:
        """Apply a layer; return what became of it: ``held``, ``not held``, or ``refused``."""
        upper = self._new(self.trees)
        self.problem = None
        with warned() as losses:
            try:
                self._unpack(tar, upper, self.trees)
            except GraphDriverError as error:
                self.problem = error
        lowers = self._chain()
        file = os.open(self._directory, os.O_RDWR | os.O_TMPFILE)
        try:
            with opened(*lowers) as fds, warned() as found:
                record = store_layer(
                    io.BytesIO(tar),
                    file,
                    uid_maps=self._maps,
                    gid_maps=self._maps,
                    below=lambda: contextlib.nullcontext(fds),
                )
        except NotHeldError as error:
            assert not found  # the unpacker will warn
            assert self._stored(error.record, file) == tar
            applied = self._new(lowers)
            if self.problem is not None:
                with pytest.raises(type(self.problem)) as again:
                    self._unpack(tar, applied, lowers)
                assert str(again.value) == str(self.problem)
                return "refused"
            self._unpack(tar, applied, lowers)
            self._add(upper, applied, error.record, ends=False)
            return f"not held: {error}"
        else:
            assert self.problem is None
            assert found == losses
            assert self._stored(record, file) == tar
            self._add(upper, self._mount(file), record, ends=record.root_opaque)
            return "held"
        finally:
            os.close(file)

    def same(self) -> None:
        """Assert that both chains show the same, and that the last layers have the same changes."""
        with (
            mounted_overlay(self._directory, self.trees) as tree,
            mounted_overlay(self._directory, self._chain()) as image,
            opened(tree, image) as (tree_fd, image_fd),
        ):
            wanted, found = recorded(tree_fd), recorded(image_fd)
            assert self._without_new_times(found, wanted) == self._without_new_times(wanted, wanted)
        images = [self.images[0], *self._chain(1)]
        with opened(*self.trees) as (upper, *lowers), opened(*images) as (applied, *below):
            assert upper_changes(applied, below) == upper_changes(upper, lowers)
            size = changed_size(compare_upper(upper, lowers))
            assert changed_size(compare_upper(applied, below)) == size
            if not lowers and self.records[0].kind is Kind.IMAGE:
                assert self.records[0].changed_size == size

    @contextlib.contextmanager
    def shown(self) -> Iterator[Path]:
        """Mount the images."""
        with mounted_overlay(self._directory, self._chain()) as merged:
            yield merged

    def close(self) -> None:
        """Unmount the images, and remove all."""
        self._mounted.close()
        remove(self._directory)

    def _chain(self, first: int = 0) -> list[Path]:
        """Return what stands in the chain of a child; an opaque root ends it."""
        chain = []
        for image, ends in list(zip(self.images, self._ends, strict=True))[first:]:
            chain.append(image)
            if ends:
                break
        return chain

    def _new(self, lowers: Sequence[Path]) -> Path:
        """Make an upper directory, with the metadata of the root below as drivers do."""
        upper = Path(tempfile.mkdtemp(dir=self._directory))
        with opened(upper, *lowers[:1]) as (fd, *below):
            if below:
                copy_metadata(fd, os.fstat(below[0]), xattr.get_all(below[0]))
            else:
                os.chown(fd, host_root(self._maps), host_root(self._maps))
                os.chmod(fd, 0o755)
        return upper

    def _unpack(self, tar: bytes, upper: Path, lowers: Sequence[Path]) -> None:
        with opened(upper, *lowers) as (fd, *below):
            form = partial(UpperDirectory, lowers=below)
            unpack(io.BytesIO(tar), fd, uid_maps=self._maps, gid_maps=self._maps, form=form)

    def _mount(self, file: int) -> Path:
        point = Path(tempfile.mkdtemp(dir=self._directory))
        # A file that is open for writing is reopened: the image is read-only from now on.
        image = os.open(f"/proc/self/fd/{file}", os.O_RDONLY)
        with opened(point) as (fd,):
            try:
                mount_image(image, fd, Way.FILE)
            except GraphDriverError:
                mount_image(image, fd, Way.LOOP)
            finally:
                os.close(image)
        self._mounted.callback(unmount, str(point), MNT_DETACH)
        return point

    def _stored(self, record: Record, file: int) -> bytes:
        stream = stored_tar(record, os.dup(file))
        try:
            return b"".join(iter(lambda: stream.read(1 << 20), b""))
        finally:
            stream.close()

    def _add(self, tree: Path, image: Path, record: Record, *, ends: bool) -> None:
        self.trees.insert(0, tree)
        self.images.insert(0, image)
        self.records.insert(0, record)
        self._ends.insert(0, ends)

    def _without_new_times(
        self, found: dict[bytes, tuple[object, ...]], wanted: dict[bytes, tuple[object, ...]]
    ) -> dict[bytes, tuple[object, ...]]:
        """Leave out the times of directories that were made because they were missing."""
        now = range(self._began, time.time_ns())
        return {
            path: (facts[0], 0, *facts[2:]) if path in wanted and wanted[path][1] in now else facts
            for path, facts in found.items()
        }


@contextlib.contextmanager
def warned() -> Iterator[list[str]]:
    """Collect the warnings of what is left out during a ``with`` block."""
    found: list[str] = []
    log = logging.getLogger("graphdriver.layer.write.refusals")
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield found
    finally:
        log.removeHandler(handler)


def recorded(root: int) -> dict[bytes, tuple[object, ...]]:
    """Return all that a layer must keep of a tree, by path; the root's is empty."""
    found = {b"": _facts(os.fstat(root), xattr.get_all(root), b"", b"")}
    first: dict[tuple[int, int], bytes] = {}
    for node in walk(root):
        content = b""
        if stat.S_ISREG(node.stat.st_mode):
            with open(open_regular(node.parent_fd, node.name), "rb") as file:
                content = file.read(_MOST)
        elif stat.S_ISLNK(node.stat.st_mode):
            content = os.readlink(node.name, dir_fd=node.parent_fd)
        key = node.stat.st_dev, node.stat.st_ino
        same = b"" if stat.S_ISDIR(node.stat.st_mode) else first.setdefault(key, node.path)
        attributes = xattr.get_all_at(node.parent_fd, node.name)
        found[node.path] = _facts(node.stat, attributes, content, same)
    return found


def _facts(
    found: os.stat_result, attributes: dict[bytes, bytes], content: bytes, same: bytes
) -> tuple[object, ...]:
    is_directory = stat.S_ISDIR(found.st_mode)
    return (
        oct(found.st_mode),
        found.st_mtime_ns,
        found.st_uid,
        found.st_gid,
        found.st_rdev,
        0 if is_directory else found.st_size,
        attributes,
        content,
        same,
    )
