"""Permission bits and extended attributes of an entry, as ext4 has them after an unpacker has set them.

The rules are the kernel's (``fs/posix_acl.c``, ``security/commoncap.c``, ``xattr_permission`` of
``fs/xattr.c``). Attributes that the kernel would reject are left to the unpacker.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Final

from graphdriver.layer.erofs.bounds import CannotHoldError
from graphdriver.layer.tar.entry import Entry, EntryType, show
from graphdriver.layer.write.refusals import Losses
from graphdriver.linux.acl import ACCESS_ACL, DEFAULT_ACL

MOST_SIZE: Final = 3072
"""The limit for all attributes of one inode, in bytes: ext4 keeps them in one block, and a file of an
image must be copied there when it is written to."""

_NAME_SIZE: Final = 16  # an attribute's header on ext4
_LONGEST_NAME: Final = 255

_CAPABILITY: Final = b"security.capability"
_IMA: Final = b"security.ima"
_ACLS: Final = frozenset({ACCESS_ACL, DEFAULT_ACL})
_CAPABILITY_SIZES: Final = {0x02000000: 20, 0x03000000: 24}
_EFFECTIVE: Final = 1
_NO_ID: Final = 0xFFFFFFFF

_ACL_VERSION: Final = 2
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER, _END = (1 << n for n in range(7))
_NEXT: Final[dict[tuple[int | None, int], int]] = {
    (_USER_OBJ, _USER_OBJ): _USER,
    (_USER, _USER): _USER,
    (_USER, _GROUP_OBJ): _GROUP,
    (_GROUP, _GROUP): _GROUP,
    (_GROUP, _MASK): _OTHER,
    (_GROUP, _OTHER): _END,
    (_OTHER, _OTHER): _END,
}
"""Which entry may follow which; the first is what was expected (``posix_acl_valid``)."""
_NAMED: Final = (_USER, _GROUP)
_SHIFTS: Final = {_USER_OBJ: 6, _GROUP_OBJ: 3, _MASK: 3, _OTHER: 0}


def as_on_disk(entry: Entry, losses: Losses) -> tuple[int, dict[bytes, bytes] | None]:
    """Return an entry's permission bits and its attributes; None if there are none.

    Args:
        entry: the entry, with attributes as `graphdriver.layer.write.translation` returns them.
        losses: warns of what is left out.

    Raises:
        CannotHoldError: the kernel would reject an attribute, or they are too large together.
    """
    mode = entry.mode
    if not entry.xattrs:
        return mode, None
    kept: dict[bytes, bytes] = {}
    size = 0
    for name, value in entry.xattrs.items():
        refused = _refusal(name, entry.type)
        if refused:
            losses.note_attribute(entry.name, name, os.strerror(refused))
            continue
        if name == ACCESS_ACL:
            mode, is_all = _with_acl(mode, value)
            if is_all:
                continue
        elif name == DEFAULT_ACL:
            if entry.type is not EntryType.DIRECTORY:
                raise CannotHoldError(f"{show(entry.name)} cannot have a default list")
            _with_acl(mode, value)  # only to check it
        else:
            _check(name, value)
        kept[name] = value
        size += _NAME_SIZE + len(name) + len(value)
    if size > MOST_SIZE:
        raise CannotHoldError(f"{show(entry.name)} has {size} bytes of attributes")
    return mode, kept or None


def _refusal(name: bytes, type: EntryType) -> int:
    """Return the kernel's error for an attribute that a type of file cannot have; 0 if it can."""
    if type in (EntryType.FILE, EntryType.DIRECTORY):
        return 0
    if name.startswith(b"user."):
        return errno.EPERM
    if type is EntryType.SYMLINK and name in _ACLS:
        return errno.EOPNOTSUPP
    return 0


def _check(name: bytes, value: bytes) -> None:
    """Check that the kernel takes an attribute as it is."""
    if len(name) > _LONGEST_NAME or (name.endswith(b".") and name.count(b".") == 1):
        raise CannotHoldError(f"the attribute {show(name)} is not a name")
    if name == _IMA:
        raise CannotHoldError("the kernel may check the signature of a file's bytes")
    if name == _CAPABILITY:
        magic = struct.unpack_from("<I", value)[0] if len(value) >= 4 else 0
        size = _CAPABILITY_SIZES.get(magic & ~_EFFECTIVE)
        root = struct.unpack_from("<I", value, 20)[0] if size == 24 == len(value) else 0
        if size != len(value) or root == _NO_ID:
            raise CannotHoldError("a file capability is damaged")


def _with_acl(mode: int, value: bytes) -> tuple[int, bool]:
    """Return what an access control list makes of a mode, and whether the mode says all of the list.

    Raises:
        CannotHoldError: the list is damaged.
    """
    if len(value) % 8 != 4 or struct.unpack_from("<I", value)[0] != _ACL_VERSION:
        raise CannotHoldError("an access control list is damaged")
    state: int | None = _USER_OBJ
    bits = 0
    names = has_mask = False
    for tag, permissions, id in struct.iter_unpack("<HHI", value[4:]):
        state = _NEXT.get((state, tag))
        if state is None or permissions > 7 or (tag in _NAMED and id == _NO_ID):
            raise CannotHoldError("an access control list is damaged")
        if tag in _NAMED:
            names = True
        else:
            has_mask |= tag == _MASK
            # In this order a mask comes after the group, and replaces it.
            bits = bits & ~(7 << _SHIFTS[tag]) | permissions << _SHIFTS[tag]
    if state != _END or (names and not has_mask):
        raise CannotHoldError("an access control list is damaged")
    return mode & ~0o777 | bits, not (names or has_mask)
