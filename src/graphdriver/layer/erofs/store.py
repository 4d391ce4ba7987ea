"""A layer's tar becomes an image: stored while it is read, and its index behind it.

The tar is read once and written once. Its entries become a tree in memory meanwhile; the data that have
no blocks of their own in the tar follow it, then the index. If an image cannot hold the layer, the rest
of the tar is stored all the same, and the caller unpacks it from there (`stored_tar`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple

from graphdriver.driver import IDMap, ReadStream
from graphdriver.errors import BrokenStreamError, GraphDriverError
from graphdriver.layer.erofs.below import LayersBelow, OpenBelow
from graphdriver.layer.erofs.bounds import Budget, CannotHoldError
from graphdriver.layer.erofs.builder import LayerBuilder
from graphdriver.layer.erofs.index import HEAD, Place, copied_start, set_root, write_index
from graphdriver.layer.erofs.record import Kind, Record, image_uuid
from graphdriver.layer.erofs.stored_tar import StoredHeaders, StoredTar, TarSums
from graphdriver.layer.erofs.storing_stream import StoringStream
from graphdriver.layer.erofs.tar_headers import KeptHeaders
from graphdriver.layer.tar.reader import TarReader
from graphdriver.layer.tar.stream import SkippableStream
from graphdriver.layer.write.refusals import Losses
from graphdriver.linux.resources import error_text


class NotHeldError(Exception):
    """An image cannot hold a layer; its tar is stored whole, to be unpacked from there.

    Args:
        reason: what an image cannot hold.
        record: where the tar is; the sizes and the count of inodes are not known.
    """

    def __init__(self, reason: str, record: Record) -> None:
        super().__init__(reason)
        self.record = record


class StoredLayer(NamedTuple):
    """A layer that an image holds.

    Attributes:
        record: its record.
        names_matter: whether the image depends on names in the layers below; what it may need besides
            is the metadata of their root.
    """

    record: Record
    names_matter: bool


def store_layer(
    archive: ReadStream,
    file_fd: int,
    *,
    uid_maps: Sequence[IDMap] = (),
    gid_maps: Sequence[IDMap] = (),
    below: OpenBelow,
    tar_fd: int | None = None,
) -> Record:
    """Store a layer's tar in an empty file and append its index, or write the index alone.

    Warnings of what is left out are those of the unpacker. After an error other than `NotHeldError` the
    file is useless.

    Args:
        archive: an uncompressed tar; a whole stream of no bytes is an empty layer. It is read to its
            end, and stored with all that follows the tar's own end.
        file_fd: the file, empty and open for reading and writing; borrowed.
        uid_maps: user ids in the tar to those on disk; empty means "the same".
        gid_maps: likewise for groups.
        below: opens the roots of the layers below, nearest first: images or upper directories. It is
            called at most once, and only if the tar needs to know what lies below: an entry in a
            directory, or behind a link, that the tar does not have; a hard link to such a file; a
            whiteout; a tar that does not describe its root.
        tar_fd: a file that holds the tar already, in whole blocks; only read; borrowed. The index is
            then in a file of its own. None: the tar is stored.

    Raises:
        NotHeldError: an image cannot hold the layer, or might show something else than the unpacker
            makes of it.
        BrokenStreamError: the stream broke off.
        GraphDriverError: the file cannot be written.
    """
    return _store_tar(archive, file_fd, uid_maps, gid_maps, below, tar_fd).record


def store_alone(
    archive: ReadStream,
    file_fd: int,
    *,
    uid_maps: Sequence[IDMap] = (),
    gid_maps: Sequence[IDMap] = (),
    tar_fd: int | None = None,
) -> StoredLayer:
    """Store the tar of a layer before the layers below it are known, as if there were none.

    All else is as for `store_layer`. What follows is `describe_root`, or `index_again`.
    """
    return _store_tar(archive, file_fd, uid_maps, gid_maps, _nothing_below, tar_fd)


def describe_root(record: Record, file_fd: int, *, below: OpenBelow) -> Record | None:
    """Do what `index_again` does for a layer that needs the metadata of the root below, and no names.

    Record and index are the same afterwards, byte for byte, and the tar is not read.

    Args:
        record: the layer's record, made by `store_alone`.
        file_fd: its file, open for reading and writing; borrowed.
        below: opens the layers below.

    Returns:
        The new record; None, and nothing was changed, if the root below has extended attributes, which
        take place in an index, or if the file has no index.

    Raises:
        GraphDriverError: the layers below cannot be read, or the file cannot be written.
    """
    try:
        with LayersBelow(below, Budget()) as layers:
            root = layers.root()
        if root is None:
            return record
        is_done = not root.xattrs and set_root(root, file_fd)
        return replace(record, facts=layers.facts) if is_done else None
    except OSError as error:
        raise GraphDriverError(
            f"the layer's index cannot be changed: {error_text(error, file_fd)}"
        ) from error


def index_again(
    record: Record, file_fd: int, *, below: OpenBelow, tar_fd: int | None = None
) -> Record:
    """Make the index of a stored tar again, with other layers below; of the tar, read the headers only.

    Args:
        record: the layer's record.
        file_fd: its file, open for reading and writing; borrowed. After an error it is useless.
        below: opens the layers below; as for `store_layer`.
        tar_fd: the file with the tar, if it is one of its own; only read; borrowed.

    Returns:
        The new record.

    Raises:
        NotHeldError: an image cannot hold the layer; see `store_layer`.
        BrokenStreamError: the stored tar is cut off.
        GraphDriverError: the file cannot be written.
    """
    tar = _TarFile(Place.BEHIND_TAR, file_fd) if tar_fd is None else _own_file(tar_fd)
    try:
        os.ftruncate(file_fd, record.tar_offset + record.tar_size if tar_fd is None else 0)
        headers = _stored_headers(record, tar)
        return _store(headers, file_fd, tar, record.uid_maps, record.gid_maps, below).record
    except OSError as error:
        raise GraphDriverError(
            f"the layer's tar cannot be stored: {error_text(error, file_fd)}"
        ) from error


def index_beside(
    record: Record, file_fd: int, *, below: OpenBelow, image_fd: int, headers: bytes = b""
) -> Record:
    """Write the index alone of a tar that is in another image; of the tar, read the headers only.

    So the record's checksums are taken as they are. Whoever needs to know that the tar has them reads
    all of it.

    Args:
        record: the record of the other image; its maps of owners are those of the new index.
        file_fd: an empty file for the index, open for reading and writing; borrowed.
        below: opens the layers below; as for `store_layer`.
        image_fd: the other image; only read; borrowed.
        headers: those of the tar (`graphdriver.layer.erofs.tar_headers`), which are believed; ``b""``:
            they are read from the other image.

    Returns:
        The record of the index, which says where the tar is in the other image.

    Raises:
        NotHeldError: an image cannot hold the layer; see `store_layer`.
        BrokenStreamError: the other image is cut off.
        GraphDriverError: the file cannot be written, or the other image cannot be read.
    """
    tar = _TarFile(Place.BEHIND_HEAD, image_fd)
    try:
        stream = _stored_headers(record, tar, headers)
        return _store(stream, file_fd, tar, record.uid_maps, record.gid_maps, below).record
    except OSError as error:
        raise GraphDriverError(
            f"the layer's index cannot be made: {error_text(error, file_fd)}"
        ) from error


def stored_tar(record: Record, file_fd: int) -> StoredTar:
    """Open a stored tar, which is checked while it is read.

    Args:
        record: the layer's record.
        file_fd: the file with it; closed with the stream.
    """
    return StoredTar(file_fd, record.tar_offset, record.tar_size, record.pieces)


def _store_tar(
    archive: ReadStream,
    file_fd: int,
    uid_maps: Sequence[IDMap],
    gid_maps: Sequence[IDMap],
    below: OpenBelow,
    tar_fd: int | None,
) -> StoredLayer:
    try:
        os.lseek(file_fd, HEAD, os.SEEK_SET)
        tar = _TarFile(Place.BEHIND_TAR, file_fd) if tar_fd is None else _own_file(tar_fd)
        with StoringStream(archive, file_fd if tar_fd is None else None) as stream:
            return _store(stream, file_fd, tar, tuple(uid_maps), tuple(gid_maps), below)
    except OSError as error:
        raise GraphDriverError(
            f"the layer's tar cannot be stored: {error_text(error, file_fd)}"
        ) from error


def _nothing_below() -> AbstractContextManager[Sequence[int]]:
    return nullcontext(())


def _store(
    stream: StoringStream | _StoredHeaders,
    fd: int,
    tar: _TarFile,
    uid_maps: tuple[IDMap, ...],
    gid_maps: tuple[IDMap, ...],
    open_below: OpenBelow,
) -> StoredLayer:
    losses = _DelayedLosses()
    size = changed_size = inodes = 0
    kind, root_opaque, facts, names_matter, reason = Kind.IMAGE, False, {}, False, ""
    budget = Budget()
    try:
        with LayersBelow(open_below, budget) as below:
            builder = LayerBuilder(uid_maps, gid_maps, below, budget, losses)
            reader = TarReader(stream)
            for entry in reader:
                size += entry.size
                builder.add(entry, reader.data_start)
            if reader.has_nonzero_padding:
                # A process that maps a file would see it, and zeros must follow the file's end.
                raise CannotHoldError("the padding behind a file is not zeros")
            builder.finish()
            sums = stream.finish()
            inodes = _write_image(fd, tar, builder, below, sums)
            changed_size = builder.changed_size()
            root_opaque = builder.root.is_opaque
            facts, names_matter = below.facts, below.names_matter
    except BrokenStreamError:
        raise
    # Damaged and hostile tars too: the unpacker finds the same, and has the words for it.
    except (CannotHoldError, GraphDriverError) as error:
        kind, reason, size, facts = Kind.TREE, str(error), 0, {}
        sums = stream.finish()
        os.ftruncate(fd, HEAD + sums.size if tar.place is Place.BEHIND_TAR else 0)
    record = Record(
        uid_maps=uid_maps,
        gid_maps=gid_maps,
        tar_offset=tar.start,
        tar_size=sums.size,
        sha256=sums.sha256,
        pieces=sums.pieces,
        size=size,
        changed_size=changed_size,
        inodes=inodes,
        kind=kind,
        root_opaque=root_opaque,
        facts=facts,
    )
    if kind is Kind.TREE:
        raise NotHeldError(reason, record)
    losses.tell()
    return StoredLayer(record, names_matter)


def _write_image(
    fd: int, tar: _TarFile, builder: LayerBuilder, below: LayersBelow, sums: TarSums
) -> int:
    """Write copied data and index; return how many inodes there are."""
    start = copied_start(tar.place, sums.size)
    copied_size = builder.write_copied(fd, start, tar.fd, tar.start)
    index = write_index(
        builder.root,
        fd,
        tar.place,
        tar_size=sums.size,
        copied_size=copied_size,
        uuid=image_uuid(sums.sha256),
    )
    return index.inodes


class _TarFile(NamedTuple):
    """The file with the tar, and where it is in it."""

    place: Place
    fd: int

    @property
    def start(self) -> int:
        """Where the tar begins in the file, in bytes."""
        return 0 if self.place is Place.OWN_FILE else HEAD


def _own_file(fd: int) -> _TarFile:
    return _TarFile(Place.OWN_FILE, fd)


class _StoredHeaders:
    """The headers of a stored tar, in the place of a tar that is stored while it is read."""

    def __init__(self, stream: SkippableStream, sums: TarSums) -> None:
        self.read = stream.read
        self.skip = stream.skip
        self._sums = sums

    def finish(self) -> TarSums:
        """Return the checksums of the tar, which was read to its end when it was stored."""
        return self._sums


def _stored_headers(record: Record, tar: _TarFile, headers: bytes = b"") -> _StoredHeaders:
    sums = TarSums(record.tar_size, record.sha256, record.pieces)
    stored = StoredHeaders(tar.fd, tar.start, record.tar_size)
    return _StoredHeaders(KeptHeaders(headers, stored) if headers else stored, sums)


class _DelayedLosses(Losses):
    """Keeps the warnings until the layer is held: otherwise the unpacker warns of the same."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, str] = {}

    def note(self, kind: str, problem: str) -> None:
        self._kept.setdefault(kind, problem)

    def tell(self) -> None:
        """Warn of all that was noted."""
        for kind, problem in self._kept.items():
            super().note(kind, problem)
