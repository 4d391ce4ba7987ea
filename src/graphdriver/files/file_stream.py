"""A stream that is a file of another program, which need not be copied."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from graphdriver.driver import ReadStream


@runtime_checkable
class FileStream(ReadStream, Protocol):
    """A stream that may be all of a file, which nobody changes and a driver need not copy."""

    def link(self, path: str) -> bool:
        """Give the file one more name, by which it is only read.

        Args:
            path: the name, which does not exist.

        Returns:
            Whether it has the name now; not if there is no such file, or it is on another filesystem.

        Raises:
            OSError: there is no room for a name.
        """
        ...
