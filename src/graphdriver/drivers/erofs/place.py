"""The file that says where a layer's tar is, if it is in a store and not in the home."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Final

from graphdriver.files.small_files import parse_object
from graphdriver.layer.erofs.record import Record
from graphdriver.linux.regular_file import open_beneath

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer's tar is, and what is known of it.

    Attributes:
        directory: the store: an absolute path.
        name: the path below it of the image with the tar.
        is_proved: as for `graphdriver.in_place.TarInPlace`; likewise ``wrong`` and ``headers``.
    """

    directory: str
    name: str
    is_proved: bool = False
    wrong: str = ""
    headers: str = ""

    def open(self) -> int:
        """Open the image for reading; the caller closes the descriptor.

        Raises:
            OSError: it cannot be opened: the store is not mounted, or does not have it.
        """
        directory = os.open(self.directory, _DIRECTORY)
        try:
            return open_beneath(directory, self.name)
        finally:
            os.close(directory)

    def why_not_there(self, record: Record) -> str:
        """Return why the tar cannot be read, in one sentence; ``""`` if it looks as if it can.

        Args:
            record: the layer's record.
        """
        end = record.tar_offset + record.tar_size
        try:
            fd = self.open()
        except OSError as error:
            return self.unreadable(error.strerror or str(error))
        try:
            size = os.fstat(fd).st_size
        finally:
            os.close(fd)
        short = f"it has {size} bytes, and should have {end} at least"
        return self.unreadable(short) if size < end else ""

    def unreadable(self, reason: str) -> str:
        """Return a sentence that says that the image cannot be read, why, and what to do."""
        return (
            f"its tar is in the store {self.directory}, and {self.name} cannot be read there:"
            f" {reason}; mount the store"
        )

    def text(self) -> str:
        """Return the content of the file."""
        members = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(members, sort_keys=True)


def parse(text: str) -> Place:
    """Return the place in a text.

    Raises:
        ValueError: it is damaged; the text says how.
    """
    members = parse_object(text)
    match members:
        case {
            "directory": str(directory),
            "name": str(name),
            "is_proved": bool(is_proved),
            "wrong": str(wrong),
            "headers": str(headers),
        } if len(members) == len(Place.__slots__) and os.path.isabs(directory):
            return Place(directory, name, is_proved, wrong, headers)
        case _:
            raise ValueError("it is not a place of a tar")
