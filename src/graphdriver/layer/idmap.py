"""Ids inside layers to ids on disk, and back.

A map is a list of ranges (user_namespaces(7)); an empty one means that ids are the same on both
sides. An id that no range holds has no owner on the other side, so it is an error, never a guess.

Two kinds of extended attribute hold ids too. Access control lists name users and groups (acl(5);
linux/posix_acl_xattr.h has their form).

File capabilities name a root. Those of version 2 belong to the root of the whole machine; what a
remapped container may use is version 3, which names the host id of its root (capabilities(7), "File
capability extended attribute versioning"). A layer's tar speaks of the container's ids, where its
root is 0 and version 2 says so.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial

from graphdriver.driver import IDMap
from graphdriver.errors import GraphDriverError
from graphdriver.layer.attributes import ACLS, CAPABILITY

_ACL_VERSION = 2
_ACL_USER = 2
_ACL_GROUP = 8
_VERSION_2 = 0x02000000
_VERSION_3 = 0x03000000
_VERSION_MASK = 0xFF000000
_SIZE_2 = 20
_SIZE_3 = 24


def to_host(maps: Sequence[IDMap], id: int) -> int:
    """Return the id on disk of an id inside a layer.

    Raises:
        GraphDriverError: no range of ``maps`` holds it. Whoever knows the entry names it.
    """
    if not maps:
        return id
    for ids in maps:
        if ids.container_id <= id < ids.container_id + ids.size:
            return id - ids.container_id + ids.host_id
    raise GraphDriverError(
        f"id {id} is outside the daemon's id maps", hint="give its user a larger range of ids"
    )


def to_container(maps: Sequence[IDMap], id: int) -> int:
    """Return the id inside a layer of an id on disk.

    Raises:
        GraphDriverError: no range of ``maps`` holds it. Whoever knows the entry names it.
    """
    if not maps:
        return id
    for ids in maps:
        if ids.host_id <= id < ids.host_id + ids.size:
            return id - ids.host_id + ids.container_id
    raise GraphDriverError(f"id {id} on disk is outside the daemon's id maps")


def attribute_to_host(
    uid_maps: Sequence[IDMap], gid_maps: Sequence[IDMap], name: bytes, value: bytes
) -> bytes:
    """Return the value of an extended attribute from a tar as it must stand on disk.

    Raises:
        GraphDriverError: it holds an id outside the maps.
    """
    if name == CAPABILITY:
        return _capability_to_host(uid_maps, value)
    if name in ACLS:
        return _acl(value, partial(to_host, uid_maps), partial(to_host, gid_maps))
    return value


def attribute_to_container(
    uid_maps: Sequence[IDMap], gid_maps: Sequence[IDMap], name: bytes, value: bytes
) -> bytes:
    """Return the value of an extended attribute from disk as a tar says it.

    Raises:
        GraphDriverError: it holds an id outside the maps.
    """
    if name == CAPABILITY:
        return _capability_to_container(uid_maps, value)
    if name in ACLS:
        return _acl(value, partial(to_container, uid_maps), partial(to_container, gid_maps))
    return value


def _acl(value: bytes, user: Callable[[int], int], group: Callable[[int], int]) -> bytes:
    """Return an access control list with other ids; what is none is left to the kernel to refuse."""
    if len(value) % 8 != 4 or struct.unpack_from("<I", value)[0] != _ACL_VERSION:
        return value
    maps = {_ACL_USER: user, _ACL_GROUP: group}
    entries = [
        struct.pack("<HHI", tag, permissions, maps[tag](id) if tag in maps else id)
        for tag, permissions, id in struct.iter_unpack("<HHI", value[4:])
    ]
    return value[:4] + b"".join(entries)


def _capability_to_host(uid_maps: Sequence[IDMap], value: bytes) -> bytes:
    """Return a ``security.capability`` from a tar as it must stand on disk.

    Without maps it is left alone. With maps version 2 becomes 3 with the host id of root, and the
    root id of version 3 is mapped. What is neither is left to the kernel to refuse.

    Raises:
        GraphDriverError: the root id is outside the maps.
    """
    if not uid_maps or len(value) not in {_SIZE_2, _SIZE_3}:
        return value
    magic: int = struct.unpack_from("<I", value)[0]
    if magic & _VERSION_MASK == _VERSION_2 and len(value) == _SIZE_2:
        root = 0
    elif magic & _VERSION_MASK == _VERSION_3 and len(value) == _SIZE_3:
        root = struct.unpack_from("<I", value, _SIZE_2)[0]
    else:
        return value
    flags = magic & ~_VERSION_MASK
    return (
        struct.pack("<I", _VERSION_3 | flags)
        + value[4:_SIZE_2]
        + struct.pack("<I", to_host(uid_maps, root))
    )


def _capability_to_container(uid_maps: Sequence[IDMap], value: bytes) -> bytes:
    """Return a ``security.capability`` from disk as a tar says it.

    Without maps it is left alone. With maps version 3 of the container's own root becomes 2, and
    another root id is mapped.

    Raises:
        GraphDriverError: the root id is outside the maps.
    """
    if not uid_maps or len(value) != _SIZE_3:
        return value
    magic: int = struct.unpack_from("<I", value)[0]
    if magic & _VERSION_MASK != _VERSION_3:
        return value
    flags = magic & ~_VERSION_MASK
    root = to_container(uid_maps, struct.unpack_from("<I", value, _SIZE_2)[0])
    if root == 0:
        return struct.pack("<I", _VERSION_2 | flags) + value[4:_SIZE_2]
    return struct.pack("<I", magic) + value[4:_SIZE_2] + struct.pack("<I", root)
