"""Small layers for the diff service, as tars."""

from __future__ import annotations

import io
import tarfile

Entry = tuple[tarfile.TarInfo, bytes]
"""An entry of a tar, and its content."""


def layer(*entries: Entry) -> bytes:
    """Return the tar of a layer."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for entry, content in entries:
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def directory(name: str, mode: int = 0o755, uid: int = 0) -> Entry:
    """Return a directory."""
    made = tarfile.TarInfo(name)
    made.type, made.mode, made.uid = tarfile.DIRTYPE, mode, uid
    return made, b""


def file(name: str, content: bytes = b"") -> Entry:
    """Return a file; an empty one called ``.wh.NAME`` is a whiteout."""
    made = tarfile.TarInfo(name)
    made.size = len(content)
    return made, content


def hard_link(name: str, target: str) -> Entry:
    """Return a hard link."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname = tarfile.LNKTYPE, target
    return made, b""
