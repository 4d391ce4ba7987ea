"""Layers in a store: put there, found, checked, and removed when nobody has used them for long.

A layer of a store is only what its tar is: `SharedLayers.tar` returns a stream that fails at its end if
the tar's SHA-256 is another one. Whoever applies it must read it to its end before the layer counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Container, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from graphdriver.driver import ClosableStream, ReadStream
from graphdriver.errors import BadArchiveError, BrokenStreamError, GraphDriverError
from graphdriver.layer.erofs.index import HEAD
from graphdriver.layer.erofs.record import LIMIT, Kind, Record, parse
from graphdriver.layer.erofs.store import NotHeldError, store_layer
from graphdriver.layer.erofs.stored_tar import StoredHeaders
from graphdriver.layer.erofs.tar_headers import LIMIT as HEADERS_LIMIT
from graphdriver.layer.erofs.tar_headers import compressed, headers_of, inflated
from graphdriver.shared.directory import REMOVED
from graphdriver.shared.keys import (
    CHAINED,
    CHAINS,
    LINK_LIMIT,
    Link,
    chained_key,
    digest_of,
    layer_key,
    link_key,
    parse_link,
)
from graphdriver.shared.leases import (
    GRACE,
    image_of,
    is_lease,
    is_leased,
    leased,
    remove_unless_leased,
)
from graphdriver.shared.store import NotStoredError, Store, Stored

IMAGE: Final = ".erofs"
RECORD: Final = ".json"
HEADERS: Final = ".headers"

_PIECE: Final = 1 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundLayer:
    """A layer that a store says it has.

    Attributes:
        link: its chain ID, computed from what is below and its diff ID.
        key: the key of its image, without the ending.
        record: what the store says of the image; only the place of the tar is used.
    """

    link: Link
    key: str
    record: Record


class SharedLayers:
    """The layers in a store.

    Args:
        store: the store.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def put(self, link: Link, image: int, record: Record) -> bool:
        """Put a layer into the store, unless it is there.

        Args:
            link: the layer's chain ID and diff ID.
            image: the file with its image, open for reading; borrowed.
            record: the image's record.

        Returns:
            Whether it was not there before.

        Raises:
            ValueError: the record is not that of the link's layer, of no image, or has maps of owners.
            OSError: the store does not take it.
        """
        if f"sha256:{record.sha256.hex()}" != link.diff_id:
            raise ValueError("the record is that of another layer")
        if record.kind is not Kind.IMAGE or record.tar_offset != HEAD:
            raise ValueError("only an image in one file can be shared")
        if record.uid_maps or record.gid_maps:
            raise ValueError("only an image without maps of owners can be shared")
        key = chained_key(link.chain_id) if record.facts else layer_key(link.diff_id)
        # In this order: what a link leads to is there, and an image has its record.
        is_new = self.store.put(f"{key}{RECORD}", io.BytesIO(record.text().encode()))
        if self.store.in_place:
            self._put_headers(f"{key}{HEADERS}", image, record)
        is_new |= self.store.put(f"{key}{IMAGE}", _File(image))
        self.store.put(link_key(link.chain_id), io.BytesIO(link.text().encode()))
        return is_new

    def _put_headers(self, key: str, image: int, record: Record) -> None:
        try:
            self.store.size(key)
        except NotStoredError:
            headers = _headers_in(image, record)
            if headers:
                self.store.put(key, io.BytesIO(compressed(headers)))

    def link_of(self, chain_id: str) -> Link | None:
        """Return the link of a chain ID; None, and a line in the log, if what the store says is wrong.

        Raises:
            OSError: the store does not answer.
        """
        key = link_key(chain_id)
        try:
            return parse_link(_whole(self.store, key, LINK_LIMIT), chain_id)
        except NotStoredError:
            return None
        except (ValueError, BadArchiveError) as error:
            _log.warning("%s: %s is not used: %s", self.store.address, key, error)
            return None

    def is_there(self, link: Link) -> bool:
        """Tell whether a layer and the link to it are in the store.

        Raises:
            OSError: the store does not answer.
        """
        return self.find(link) is not None and self.link_of(link.chain_id) == link

    def find(self, link: Link) -> FoundLayer | None:
        """Return a layer, if the store has it.

        Raises:
            OSError: the store does not answer.
        """
        for key in (layer_key(link.diff_id), chained_key(link.chain_id)):
            try:
                record = self._record(key)
                size = self.store.size(f"{key}{IMAGE}")
            except NotStoredError:
                continue
            except (ValueError, BadArchiveError) as error:
                _log.warning("%s: %s is not used: %s", self.store.address, key, error)
                continue
            if record.tar_offset + record.tar_size > size:
                _log.warning(
                    "%s: %s%s is not used: it is too short", self.store.address, key, IMAGE
                )
                continue
            return FoundLayer(link, key, record)
        return None

    def _record(self, key: str) -> Record:
        """Return an image's record, as the store says it; `ValueError` if it cannot be one."""
        record = parse(_whole(self.store, f"{key}{RECORD}", LIMIT).decode())
        # All others are none of ours, and reading may begin at no other place: to get there could take
        # any time in a compressed image.
        if record.kind is not Kind.IMAGE or record.tar_offset != HEAD:
            raise ValueError("its tar is not behind the head of an image")
        return record

    def headers(self, layer: FoundLayer) -> bytes:
        """Return the headers of a layer's tar, as the store says them; ``b""`` if it does not.

        Raises:
            OSError: the store does not answer.
        """
        key = f"{layer.key}{HEADERS}"
        try:
            return inflated(_whole(self.store, key, HEADERS_LIMIT), layer.record.tar_size)
        except NotStoredError:
            _log.info(
                "%s: there is no %s: the headers are read from the tar", self.store.address, key
            )
        except (ValueError, BadArchiveError) as error:
            _log.warning("%s: %s is not used: %s", self.store.address, key, error)
        return b""

    def tar(self, layer: FoundLayer) -> ClosableStream:
        """Return a layer's tar.

        Returns:
            A stream; reading its end raises `BadArchiveError` if it is another tar, and
            `BrokenStreamError` if the store has less of it.

        Raises:
            NotStoredError: it was removed meanwhile.
            OSError: the store does not answer.
        """
        stream = self.store.read(f"{layer.key}{IMAGE}", layer.record.tar_offset)
        return _Tar(stream, layer, self.store.address)

    def wrong(self, stored: Stored) -> str | None:
        """Return what is wrong with an image, or None: its tar is read, and its index is made again.

        An index that depends on the layers below is not compared: these are not known here. The tar's
        headers in the store are compared.

        Args:
            stored: an object whose key ends in `IMAGE`.

        Raises:
            NotStoredError: it was removed meanwhile.
            OSError: the store does not answer.
        """
        key = stored.key.removesuffix(IMAGE)
        try:
            record = self._record(key)
        except NotStoredError:
            return "its record is missing"
        except (ValueError, BadArchiveError) as error:
            return f"its record is damaged: {error}"
        digest = f"sha256:{record.sha256.hex()}"
        expected = digest_of(stored.key)
        if stored.key.startswith(CHAINED):
            link = self.link_of(expected)
            if link is None:
                return "no link leads to it"
            expected = link.diff_id
        elif record.facts:
            return "its index depends on layers below it"
        if digest != expected:
            return f"its record names {digest}"
        layer = FoundLayer(Link("", digest), key, record)
        try:
            with closing(self.tar(layer)) as tar:
                if not record.facts:
                    return self._difference(stored, record, tar)
                return self._wrong_headers(key, record, headers_of(tar, record.tar_size))
        except GraphDriverError as error:
            return str(error)

    def _difference(self, stored: Stored, record: Record, tar: ReadStream) -> str | None:
        with tempfile.TemporaryFile() as again:
            try:
                made = store_layer(tar, again.fileno(), below=_no_layers)
            except NotHeldError as error:
                return f"no image can hold it: {error}"
            if made != record:
                return "its record is not that of its tar"
            if problem := self._first_difference(stored, again.fileno()):
                return problem
            headers = _headers_in(again.fileno(), record)
            return self._wrong_headers(stored.key.removesuffix(IMAGE), record, headers)

    def _wrong_headers(self, key: str, record: Record, headers: bytes | None) -> str | None:
        """Return what is wrong with the headers in the store, given those of the tar."""
        try:
            found = _whole(self.store, f"{key}{HEADERS}", HEADERS_LIMIT)
            if inflated(found, record.tar_size) != headers:
                return "its headers are not those of its tar"
        except NotStoredError:
            pass
        except ValueError as error:
            return f"its headers are damaged: {error}"
        return None

    def _first_difference(self, stored: Stored, fd: int) -> str | None:
        at = 0
        with closing(self.store.read(stored.key)) as image:
            while True:
                piece = image.read(_PIECE)
                if piece != os.pread(fd, len(piece) or 1, at):
                    return f"its index is not that of its tar: see byte {at} and those behind it"
                if not piece:
                    return None
                at += len(piece)

    def unused(self, seconds: float) -> Iterator[Stored]:
        """Yield the objects that nobody has used for so long, and those that were never finished.

        Links come with the others: a link to a layer that is gone is a miss. Layers that a node reads
        in place, the links to them, and the leases for them, are used. What a killed removal left is
        unused at once.
        """
        found = list(self.store.stored())
        held = {image.removesuffix(IMAGE) for image in leased(found)}
        ages = {one.key: one.unused for one in found}
        for one in found:
            if one.key.endswith(REMOVED):
                yield one
                continue
            least = max(seconds, GRACE) if is_lease(one.key) else seconds
            key = _layer_of(one.key)
            # Who fetches an image does not read the headers, and others may need them.
            image = f"{key}{IMAGE}" if one.key.endswith(HEADERS) else one.key
            if min(one.unused, ages.get(image, one.unused)) < least or key in held:
                continue
            if held and one.key.startswith(CHAINS) and self._leads_to(one.key, held):
                continue
            yield one

    def _leads_to(self, key: str, layers: Container[str]) -> bool:
        """Tell whether a link leads to one of these layers; it does not count as used by that."""
        chain_id, store = digest_of(key), self.store.in_place
        if not chain_id or not store:
            return False
        try:
            with open(store.open(key), "rb") as file:
                link = parse_link(file.read(LINK_LIMIT), chain_id)
        except (NotStoredError, ValueError, OSError, BadArchiveError):  # gone meanwhile, or useless
            return False
        return layer_key(link.diff_id) in layers or chained_key(chain_id) in layers

    def remove_unused(self, found: Sequence[Stored]) -> list[Stored]:
        """Remove objects that `unused` found; return those that were removed.

        Layers for which a node has taken a lease meanwhile are kept. A kill leaves no image without
        its record: the image goes first.

        Raises:
            OSError: the store does not answer.
        """
        removed: list[Stored] = []
        kept: set[str] = set()
        for one in sorted(found, key=lambda one: not one.key.removesuffix(REMOVED).endswith(IMAGE)):
            key = _layer_of(image_of(one.key) if is_lease(one.key) else one.key)
            if key in kept:
                continue
            if remove_unless_leased(self.store, one.key):
                removed.append(one)
            else:
                kept.add(key)
        return removed

    def remove_wrong(self, image: str) -> bool:
        """Remove a layer with which something is wrong; return whether no node reads it in place.

        After a kill something is still wrong with what is left: the record goes first, since pushing
        the layer again does not replace it.

        Args:
            image: the key of its image.

        Raises:
            OSError: the store does not answer.
        """
        if is_leased(self.store, image):
            return False
        for beside in (RECORD, HEADERS):
            self.store.remove(f"{_layer_of(image)}{beside}")
        return remove_unless_leased(self.store, image)


def _layer_of(key: str) -> str:
    """Return the key of an image, its record or its headers without the ending."""
    key = key.removesuffix(REMOVED)
    return key.removesuffix(IMAGE).removesuffix(RECORD).removesuffix(HEADERS)


class _File:
    """An open file from its beginning, wherever its position is."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0

    def read(self, n: int, /) -> bytes:
        piece = os.pread(self._fd, n, self._at)
        self._at += len(piece)
        return piece


class _Tar:
    """A layer's tar out of its image, checked at its end."""

    def __init__(self, stream: ClosableStream, layer: FoundLayer, address: str) -> None:
        self._stream = stream
        self._left = layer.record.tar_size
        self._hash = hashlib.sha256()
        self._layer = layer
        self._address = address

    def read(self, n: int, /) -> bytes:
        piece = self._stream.read(min(n, self._left)) if self._left else b""
        self._hash.update(piece)
        self._left -= len(piece)
        if piece:
            return piece
        named = f"{self._address}: {self._layer.key}{IMAGE}"
        if self._left:
            raise BrokenStreamError(f"{named} ends {self._left} bytes early")
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._layer.link.diff_id:
            raise BadArchiveError(f"{named} has the tar {found}, not {self._layer.link.diff_id}")
        return b""

    def close(self) -> None:
        self._stream.close()


def _headers_in(image: int, record: Record) -> bytes | None:
    """Return the headers of the tar in an image; None if they are too long."""
    return headers_of(StoredHeaders(image, record.tar_offset, record.tar_size), record.tar_size)


def _no_layers() -> contextlib.AbstractContextManager[Sequence[int]]:
    return contextlib.nullcontext(())


def _whole(store: Store, key: str, limit: int) -> bytes:
    """Return a small object.

    Raises:
        NotStoredError: it does not exist.
        ValueError: it is larger than the limit.
    """
    found = bytearray()
    with closing(store.read(key)) as stream:
        while piece := stream.read(_PIECE):
            found += piece
            if len(found) > limit:
                raise ValueError(f"it has more than {limit} bytes")
    return bytes(found)
