"""The policy for extended attributes: which belong to a layer, how they are stored, which may be lost.

**Content.** An attribute that is not content of a layer is ignored by every driver: it is not read from
a tar, copied between trees, written by Diff or compared by Changes. These are not content:

- *orders* to an overlay filesystem. The kernel and fuse-overlayfs obey them: a redirect shows another
  directory even if the mount's options forbid it. Builders leave some in images.
- *labels* of a machine's own security policy. The machine that unpacks gives files its own labels;
  ``security.evm`` signs an inode of the machine that made it. ``security.ima`` is a hash or a
  signature of the file's bytes, and so it is content.
- *storage*: how one filesystem keeps a file. ``btrfs.compression`` is an administrator's choice; XFS
  lists each access control list a second time, under its own name and with the ids on disk.
- names outside the namespaces that layers use (xattr(7)): other systems have others (``com.apple.*``),
  and so have some filesystems (``system.nfs4_acl``, ``ceph.*``).

New files in a directory with a default access control list inherit one (acl(5)). That one does not
belong to the layer either: it is removed before the entry's own attributes are set
(`graphdriver.linux.acl`).

**Ids.** Two kinds of attributes hold ids, which are mapped as owners are (`graphdriver.layer.idmap`).
Access control lists name users and groups (linux/posix_acl_xattr.h has their form). File capabilities
name a root: those of version 2 belong to the root of the whole machine, those of version 3 to the root
of a user namespace, by its id on the host; a remapped container can only use version 3
(capabilities(7), "File capability extended attribute versioning"). A tar contains the container's ids,
in which root is 0, which is version 2.

**Losses.** A filesystem or a type of file may refuse an attribute. Then it is left out with a warning,
unless the file would not be the same without it (`may_be_lost`).
"""

from __future__ import annotations

import enum
import errno
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from graphdriver.driver import IDMap
from graphdriver.layer.idmap import to_container, to_host
from graphdriver.linux.acl import ACCESS_ACL, DEFAULT_ACL

Attributes = Mapping[bytes, bytes]
"""Values by name."""

TRUSTED_OVERLAY = b"trusted.overlay."
USER_OVERLAY = b"user.overlay."
FUSE_OVERLAYFS = b"user.fuseoverlayfs."

_CAPABILITY = b"security.capability"
_ACLS = frozenset({ACCESS_ACL, DEFAULT_ACL})

_ORDERS = (TRUSTED_OVERLAY, USER_OVERLAY, FUSE_OVERLAYFS, b"security.fuseoverlayfs.")
_LABELS = (b"security.selinux", b"security.SMACK64", b"security.evm")
_STORAGE = (b"btrfs.", b"trusted.SGI_ACL_")
_NAMESPACES = (b"security.", b"trusted.", b"user.")
_NEVER_CONTENT = (*_ORDERS, *_LABELS, *_STORAGE)

_NOT_SUPPORTED = frozenset({errno.EOPNOTSUPP, errno.EPERM})
"""The errors of a filesystem, or a type of file, that does not hold such attributes at all."""

_ACL_VERSION = 2
_ACL_USER = 2
_ACL_GROUP = 8

_VERSION_2 = 0x02000000
_VERSION_3 = 0x03000000
_VERSION_MASK = 0xFF000000
_SIZE_2 = 20
_SIZE_3 = 24


class NotContent(enum.Enum):
    """The reason why an attribute is not content; the value is the text for a warning."""

    ORDER = "is an overlay's own mark"
    LABEL = "is a label of another machine's security policy"
    STORAGE = "says how a filesystem stores the file"
    NAMESPACE = "is in no namespace that layers use"


def is_content(name: bytes) -> bool:
    """Tell whether an attribute belongs to a layer."""
    if name.startswith(_NAMESPACES):
        return not name.startswith(_NEVER_CONTENT)
    return name in _ACLS


def content_of(attributes: Attributes) -> dict[bytes, bytes]:
    """Return those attributes that belong to a layer."""
    return {name: value for name, value in attributes.items() if is_content(name)}


def not_content(names: Iterable[bytes]) -> Iterator[tuple[bytes, NotContent]]:
    """Yield the names that do not belong to a layer, each with the reason."""
    for name in names:
        if not is_content(name):
            yield name, _why_not(name)


def is_same_content(one: Attributes, other: Attributes) -> bool:
    """Tell whether two files have the same attributes, as far as those belong to a layer."""
    return one == other or content_of(one) == content_of(other)


def may_be_lost(name: bytes, number: int | None, *, is_link: bool) -> bool:
    """Tell whether a file is still the same without an attribute that could not be set.

    Without its capabilities a program does not do its work. Without its access control list more users
    may read a file, since the mode's bits for the group are then the list's mask. But nothing runs or
    guards a symbolic link itself.

    Args:
        name: the attribute.
        number: the errno of the failed call; a full disk, for example, is no reason to lose anything.
        is_link: the file is a symbolic link.
    """
    is_vital = name == _CAPABILITY or name in _ACLS
    return number in _NOT_SUPPORTED and (is_link or not is_vital)


def on_disk(
    attributes: Attributes, uid_maps: Sequence[IDMap], gid_maps: Sequence[IDMap]
) -> dict[bytes, bytes]:
    """Return the content of a tar entry's attributes, with the ids for the disk.

    Raises:
        GraphDriverError: one holds an id outside the maps.
    """
    content = content_of(attributes)
    if uid_maps and _CAPABILITY in content:
        content[_CAPABILITY] = _capability_on_disk(uid_maps, content[_CAPABILITY])
    return _with_acls(content, partial(to_host, uid_maps), partial(to_host, gid_maps))


def in_tar(
    attributes: Attributes, uid_maps: Sequence[IDMap], gid_maps: Sequence[IDMap]
) -> dict[bytes, bytes]:
    """Return the content of a file's attributes, with the ids for a tar.

    Raises:
        GraphDriverError: one holds an id outside the maps.
    """
    content = content_of(attributes)
    if uid_maps and _CAPABILITY in content:
        content[_CAPABILITY] = _capability_in_tar(uid_maps, content[_CAPABILITY])
    return _with_acls(content, partial(to_container, uid_maps), partial(to_container, gid_maps))


def _why_not(name: bytes) -> NotContent:
    if name.startswith(_ORDERS):
        return NotContent.ORDER
    if name.startswith(_LABELS):
        return NotContent.LABEL
    if name.startswith(_STORAGE):
        return NotContent.STORAGE
    return NotContent.NAMESPACE


def _with_acls(
    content: dict[bytes, bytes], user: Callable[[int], int], group: Callable[[int], int]
) -> dict[bytes, bytes]:
    for name in _ACLS & content.keys():
        content[name] = _acl(content[name], user, group)
    return content


def _acl(value: bytes, user: Callable[[int], int], group: Callable[[int], int]) -> bytes:
    """Return an access control list with mapped ids; leave a damaged one for the kernel to reject."""
    if len(value) % 8 != 4 or struct.unpack_from("<I", value)[0] != _ACL_VERSION:
        return value
    maps = {_ACL_USER: user, _ACL_GROUP: group}
    entries = [
        struct.pack("<HHI", tag, permissions, maps[tag](id) if tag in maps else id)
        for tag, permissions, id in struct.iter_unpack("<HHI", value[4:])
    ]
    return value[:4] + b"".join(entries)


def _capability_on_disk(uid_maps: Sequence[IDMap], value: bytes) -> bytes:
    """Return a tar's file capability with a root on disk; leave a damaged one to the kernel."""
    if len(value) not in {_SIZE_2, _SIZE_3}:
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


def _capability_in_tar(uid_maps: Sequence[IDMap], value: bytes) -> bytes:
    """Return a file capability from disk with a root in the container; version 2 if that is 0."""
    if len(value) != _SIZE_3:
        return value
    magic: int = struct.unpack_from("<I", value)[0]
    if magic & _VERSION_MASK != _VERSION_3:
        return value
    flags = magic & ~_VERSION_MASK
    root = to_container(uid_maps, struct.unpack_from("<I", value, _SIZE_2)[0])
    if root == 0:
        return struct.pack("<I", _VERSION_2 | flags) + value[4:_SIZE_2]
    return struct.pack("<I", magic) + value[4:_SIZE_2] + struct.pack("<I", root)
