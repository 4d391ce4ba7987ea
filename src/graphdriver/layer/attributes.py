"""Which extended attributes are content of a layer, and which are not: the one policy.

It holds in both directions and for every driver. An attribute that is not content is neither taken from
an image's tar, nor copied from one tree to another, nor written by Diff, nor compared by Changes:

- *marks* of an overlay. The kernel or fuse-overlayfs obeys them: a redirect shows another directory
  whatever the mount's options say. Builders leave some behind in images.
- *labels* of a machine's own security policy. The machine that unpacks gives files its own labels;
  ``security.evm`` signs an inode of the machine that it was made on. ``security.ima`` is a hash or a
  signature of the file's bytes, and so it is content.
- *storage*: how one filesystem keeps a file. ``btrfs.compression`` is an administrator's choice; XFS
  lists each access control list a second time, under its own name and with the ids of the disk.
- names outside the namespaces that layers use (xattr(7)): other systems have others (``com.apple.*``),
  and so have some filesystems (``system.nfs4_acl``, ``ceph.*``).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from graphdriver.linux.acl import ACCESS_ACL, DEFAULT_ACL

TRUSTED_OVERLAY = b"trusted.overlay."
USER_OVERLAY = b"user.overlay."
FUSE_OVERLAYFS = b"user.fuseoverlayfs."

CAPABILITY = b"security.capability"
ACLS = frozenset({ACCESS_ACL, DEFAULT_ACL})

_MARKS = (TRUSTED_OVERLAY, USER_OVERLAY, FUSE_OVERLAYFS, b"security.fuseoverlayfs.")
_LABELS = (b"security.selinux", b"security.SMACK64", b"security.evm")
_STORAGE = (b"btrfs.", b"trusted.SGI_ACL_")
_NAMESPACES = (b"security.", b"trusted.", b"user.")
_NEVER_CONTENT = (*_MARKS, *_LABELS, *_STORAGE)


class NotContent(enum.Enum):
    """Why an attribute is no content; the value says it of the attribute."""

    MARK = "is an overlay's own mark"
    LABEL = "is a label of another machine's security policy"
    STORAGE = "says how a filesystem stores the file"
    NAMESPACE = "is in no namespace that layers use"


def is_content(name: bytes) -> bool:
    """Tell whether an attribute belongs to a layer."""
    if name.startswith(_NAMESPACES):
        return not name.startswith(_NEVER_CONTENT)
    return name in ACLS


def content_of(attributes: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return those attributes that belong to a layer."""
    return {name: value for name, value in attributes.items() if is_content(name)}


def why_not_content(name: bytes) -> NotContent:
    """Return the reason for which `is_content` is false."""
    if name.startswith(_MARKS):
        return NotContent.MARK
    if name.startswith(_LABELS):
        return NotContent.LABEL
    if name.startswith(_STORAGE):
        return NotContent.STORAGE
    return NotContent.NAMESPACE


def is_vital(name: bytes) -> bool:
    """Tell whether a file without this attribute is another file: it runs or is guarded otherwise.

    Without its access control list more users may read a file, since the mode's bits for the group are
    then the list's mask.
    """
    return name == CAPABILITY or name in ACLS
