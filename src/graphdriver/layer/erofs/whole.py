"""A quick check that a layer's file is whole: its length, and the head that was written last.

It reads one block. Content is checked by reading the tar (`graphdriver.layer.erofs.stored_tar`).
"""

from __future__ import annotations

import os

from graphdriver.layer.erofs.index import HEAD
from graphdriver.layer.erofs.record import Kind, Record, image_uuid
from graphdriver.layer.erofs.structures import BLOCK, parse_head


def why_not_whole(file_fd: int, record: Record) -> str:
    """Return why a layer's file is not what its record describes; ``""`` if it looks so.

    Args:
        file_fd: the file, open for reading.
        record: its record.

    Raises:
        OSError: it cannot be read.
    """
    size = os.fstat(file_fd).st_size
    least = 0 if record.has_own_tar else record.tar_offset + record.tar_size
    if record.kind is Kind.IMAGE:
        head = parse_head(os.pread(file_fd, HEAD, 0))
        if head is None:
            return "it is no image any more"
        if head.uuid != image_uuid(record.sha256):
            return "it is the image of another layer"
        least = max(0 if head.has_device else least, head.blocks * BLOCK)
    return f"it has {size} bytes, and should have {least}" if size < least else ""


def has_device(file_fd: int) -> bool:
    """Tell whether the tar of an image is in a second file; errors as for `why_not_whole`."""
    head = parse_head(os.pread(file_fd, HEAD, 0))
    return head is not None and head.has_device


def why_no_tar(tar_fd: int, record: Record) -> str:
    """Return why a tar in a file of its own is not as long as its record says; ``""`` if it is."""
    size = os.fstat(tar_fd).st_size
    return (
        f"it has {size} bytes, and should have {record.tar_size}" if size != record.tar_size else ""
    )
