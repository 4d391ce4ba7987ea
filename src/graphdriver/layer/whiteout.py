"""Whiteouts: how a layer's tar says that something of the layers below is deleted.

A file called ``.wh.NAME`` deletes NAME from the layers below, ``.wh..wh..opq`` in a directory all that
the layers below have in it (OCI image-spec, layer.md, "Whiteouts"). Other names that begin with
``.wh..wh.`` are AUFS's own. What a tree on disk makes of them its form decides
(`graphdriver.layer.write.form`).
"""

from __future__ import annotations

from graphdriver.errors import BadArchiveError
from graphdriver.layer.tar.entry import Entry, EntryType

PREFIX = b".wh."
"""What the name of a whiteout begins with; the rest is the name that it deletes."""

META_PREFIX = b".wh..wh."
"""What AUFS's own names begin with."""

OPAQUE = b".wh..wh..opq"
"""The opaque mark."""

LINK_TARGETS = b".wh..wh.plnk"
"""A directory in the root with targets of hard links; it is no part of the layer itself."""


def target(name: bytes) -> bytes:
    """Return the name that a whiteout deletes.

    Raises:
        BadArchiveError: it can be no file's name (``.wh..`` would delete the directory that it is in).
    """
    hidden = name[len(PREFIX) :]
    if hidden in {b"", b".", b".."}:
        raise BadArchiveError("a whiteout for no name")
    return hidden


def whiteout_entry(prefix: bytes, name: bytes) -> Entry:
    """Return the entry that deletes a name; ``prefix`` is its directory's path with a slash at its end.

    It is an empty file, of which the name alone counts, and its time never changes.
    """
    return Entry(prefix + PREFIX + name, EntryType.FILE, mode=0o600)


def opaque_entry(prefix: bytes) -> Entry:
    """Return the entry that deletes all that the layers below have in a directory."""
    return Entry(prefix + OPAQUE, EntryType.FILE, mode=0o600)
