"""The record beside an image: what the image is made of, and what it depends on.

EROFS has no place for the length of a tar, and an image must not be trusted to describe itself. So a
record is kept beside it, as JSON. The same layer has the same record, byte for byte. A crash, a disk or
an administrator may have damaged it: it has a checksum, and every member is checked when it is read.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final, TypeVar

from graphdriver.driver import IDMap
from graphdriver.layer.erofs.stored_tar import PIECE

VERSION: Final = 1
"""The version of index and record; a change of one byte of an index for the same tar adds 1."""

FACTS_MAX: Final = 4 << 20
"""The limit in bytes of `Record.facts` with their paths; no image holds a layer with more."""

LIMIT: Final = 64 << 20
"""The limit in bytes of a record: that of a tar of 2 TiB with `FACTS_MAX` bytes of facts has 50 MiB."""

_SUM: Final = 4
_ID_END: Final = 1 << 32

_T = TypeVar("_T")


class Kind(enum.Enum):
    """What shows a layer's files."""

    IMAGE = "image"
    """The image."""
    TREE = "tree"
    """A tree beside it, unpacked from the tar, since an image cannot hold the layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a layer's file.

    Attributes:
        uid_maps: the maps of user ids that the image was made with.
        gid_maps: those of group ids.
        tar_offset: where the tar begins in the file, in bytes; 0: it is in a file of its own.
        tar_size: its length in bytes.
        sha256: its SHA-256: the layer's diff ID.
        pieces: its checksums (`graphdriver.layer.erofs.stored_tar.TarSums`).
        size: the sum of the sizes in its headers, in bytes.
        changed_size: the size in bytes of the layer's files, as DiffSize counts them, with those that
            are the same in the layers below.
        inodes: how many there are in the layer.
        kind: what shows its files.
        root_opaque: whether nothing of the layers below is shown at all.
        facts: what was looked up in the layers below, path by path (`graphdriver.layer.erofs.facts`).
            An image without facts depends on its tar alone.
    """

    uid_maps: tuple[IDMap, ...]
    gid_maps: tuple[IDMap, ...]
    tar_offset: int
    tar_size: int
    sha256: bytes
    pieces: bytes
    size: int
    changed_size: int
    inodes: int
    kind: Kind
    root_opaque: bool
    facts: Mapping[bytes, str]

    @property
    def has_own_tar(self) -> bool:
        """Whether the tar is in a file of its own, beside the one with the index."""
        return not self.tar_offset

    def text(self) -> str:
        """Return the record as JSON."""
        return _checked_text(
            {
                "changed_size": self.changed_size,
                "facts": {os.fsdecode(path): fact for path, fact in self.facts.items()},
                "gid_maps": _listed(self.gid_maps),
                "inodes": self.inodes,
                "kind": self.kind.value,
                "pieces": base64.b64encode(self.pieces).decode(),
                "root_opaque": self.root_opaque,
                "sha256": self.sha256.hex(),
                "size": self.size,
                "tar_offset": self.tar_offset,
                "tar_size": self.tar_size,
                "uid_maps": _listed(self.uid_maps),
                "version": VERSION,
            }
        )


def parse(text: str) -> Record:
    """Return the record in a text.

    Raises:
        ValueError: it is damaged, or of another version; the text says how, in one line.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(found, dict) or found.keys() != {"checksum", "record"}:
        raise ValueError("it is not a record")
    members = found["record"]
    if not isinstance(members, dict) or _checked_text(members) != text:
        raise ValueError("its checksum is another one")
    if members.get("version") != VERSION:
        raise ValueError(f"its version is {members.get('version')!r:.40}, not {VERSION}")
    if members.keys() != {"version"} | {field.name for field in fields(Record)}:
        raise ValueError("it has other members than a record")
    tar_size = _member(members, "tar_size", _count)
    pieces = _member(members, "pieces", _base64)
    if len(pieces) != -(-tar_size // PIECE) * _SUM:
        raise ValueError("its tar and the checksums have different lengths")
    return Record(
        uid_maps=_member(members, "uid_maps", _maps),
        gid_maps=_member(members, "gid_maps", _maps),
        tar_offset=_member(members, "tar_offset", _count),
        tar_size=tar_size,
        sha256=_member(members, "sha256", _sha256),
        pieces=pieces,
        size=_member(members, "size", _count),
        changed_size=_member(members, "changed_size", _count),
        inodes=_member(members, "inodes", _count),
        kind=_member(members, "kind", Kind),
        root_opaque=_member(members, "root_opaque", _flag),
        facts=_member(members, "facts", _facts),
    )


def image_uuid(sha256: bytes) -> bytes:
    """Return the UUID of the image of a tar: 16 bytes (RFC 9562, version 8).

    Args:
        sha256: the tar's SHA-256.
    """
    made = hashlib.sha256(b"graphdriver erofs %d\0" % VERSION + sha256).digest()
    return made[:6] + bytes([made[6] & 0x0F | 0x80, made[7], made[8] & 0x3F | 0x80]) + made[9:16]


def _checked_text(members: Mapping[str, object]) -> str:
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return f'{{"checksum":"{zlib.crc32(text.encode()):08x}","record":{text}}}'


def _member(members: Mapping[str, object], name: str, read: Callable[[object], _T]) -> _T:
    try:
        return read(members[name])
    except ValueError as error:
        raise ValueError(f"{name} is {members[name]!r:.80}") from error


def _count(found: object) -> int:
    if type(found) is not int or found < 0:
        raise ValueError
    return found


def _flag(found: object) -> bool:
    if not isinstance(found, bool):
        raise ValueError  # noqa: TRY004 - as other damage is
    return found


def _base64(found: object) -> bytes:
    try:
        return base64.b64decode(_string(found), validate=True)
    except binascii.Error as error:
        raise ValueError from error


def _sha256(found: object) -> bytes:
    digest = bytes.fromhex(_string(found))
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError
    return digest


def _maps(found: object) -> tuple[IDMap, ...]:
    if not isinstance(found, list):
        raise ValueError  # noqa: TRY004 - as other damage is
    return tuple(_map(one) for one in found)


def _map(found: object) -> IDMap:
    if not isinstance(found, list) or len(found) != 3:
        raise ValueError
    container, host, size = map(_count, found)
    if max(container, host) + size > _ID_END:
        raise ValueError
    return IDMap(container, host, size)


def _facts(found: object) -> dict[bytes, str]:
    if not isinstance(found, dict):
        raise ValueError  # noqa: TRY004 - as other damage is
    return {os.fsencode(path): _string(fact) for path, fact in found.items()}


def _string(found: object) -> str:
    if not isinstance(found, str):
        raise ValueError  # noqa: TRY004 - as other damage is
    return found


def _listed(maps: Sequence[IDMap]) -> list[list[int]]:
    return [[one.container_id, one.host_id, one.size] for one in maps]
