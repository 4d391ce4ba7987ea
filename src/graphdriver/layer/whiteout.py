"""Whiteouts: entries of a layer's tar that delete something of the layers below.

A file called ``.wh.NAME`` deletes NAME from the layers below; ``.wh..wh..opq`` in a directory deletes
everything that the layers below have in it (OCI image-spec, layer.md, "Whiteouts"). Other names that
begin with ``.wh..wh.`` are AUFS's own. The form of a tree decides how they are stored on disk
(`graphdriver.layer.write.form`).
"""

from __future__ import annotations

from graphdriver.errors import BadArchiveError
from graphdriver.layer.tar.entry import Entry, EntryType

PREFIX = b".wh."
"""The start of a whiteout's name; the rest is the name that it deletes."""

META_PREFIX = b".wh..wh."
"""The start of AUFS's own names."""

OPAQUE = b".wh..wh..opq"
"""The opaque mark."""

LINK_TARGETS = b".wh..wh.plnk"
"""A directory in the root with targets of hard links; it is no part of the layer itself."""


def target(name: bytes) -> bytes:
    """Return the name that a whiteout deletes.

    Raises:
        BadArchiveError: the name is no file's (``.wh..`` would delete the whiteout's own directory).
    """
    hidden = name[len(PREFIX) :]
    if hidden in {b"", b".", b".."}:
        raise BadArchiveError("a whiteout without a name")
    return hidden


def whiteout_entry(prefix: bytes, name: bytes) -> Entry:
    """Return the entry that deletes a name; ``prefix`` is its directory's path with a slash at its end.

    It is an empty file, since only the name counts, and its time is fixed.
    """
    return Entry(prefix + PREFIX + name, EntryType.FILE, mode=0o600)


def opaque_entry(prefix: bytes) -> Entry:
    """Return the entry that deletes everything that the layers below have in a directory."""
    return Entry(prefix + OPAQUE, EntryType.FILE, mode=0o600)
