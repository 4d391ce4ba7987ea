"""What a store can do: five calls, which are all that a kind of store must have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from graphdriver.driver import ClosableStream, ReadStream


class NotStoredError(Exception):
    """A store has no such object."""


class AwayError(OSError):
    """A store is not there, or does not answer; it may be back later."""


class DeniedError(PermissionError):
    """A store is there, and this process has no right to what it asks of it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object in a store.

    Attributes:
        key: its key.
        size: how many bytes of the store it takes.
        unused: how long nobody has used it, in seconds, by the store's own clock; how long it has been
            there, if the store does not know more.
    """

    key: str
    size: int
    unused: float


class Store(Protocol):
    """Objects under keys: relative paths of letters, digits, dots and slashes.

    What a store returns is not trusted by its callers. All calls raise `OSError` if the store does not
    answer, or cannot do it; `size` and `read` raise `BadArchiveError` if they see that an object is
    damaged.

    Attributes:
        address: the store as its user names it.
    """

    address: str

    @property
    def in_place(self) -> InPlaceStore | None:
        """The store itself if nodes can read its objects where they are, or else None."""
        ...

    def size(self, key: str) -> int:
        """Return an object's length in bytes.

        Raises:
            NotStoredError: there is no such object.
        """
        ...

    def read(self, key: str, start: int = 0) -> ClosableStream:
        """Read an object.

        Args:
            key: its key.
            start: from where on, in bytes.

        Raises:
            NotStoredError: there is no such object.
        """
        ...

    def put(self, key: str, content: ReadStream) -> bool:
        """Put a new object into the store: whole, or not at all.

        Returns:
            False if there was one, which is left as it is. If two put it there at once, both may get
            True, and one object is left.
        """
        ...

    def stored(self) -> Iterator[Stored]:
        """Yield all objects, in any order."""
        ...

    def remove(self, key: str) -> None:
        """Remove an object; succeed if it does not exist."""
        ...

    def close(self) -> None:
        """Close what the store holds open."""
        ...


class InPlaceStore(Store, Protocol):
    """A store whose objects are files below the directory ``address``: nodes can read them there.

    It keeps leases of those nodes, and removes nothing that they need.
    """

    def open(self, key: str) -> int:
        """Open an object's file for reading, which counts as no use; the caller closes the descriptor.

        Raises:
            NotStoredError: there is no such object.
        """
        ...

    def touch(self, key: str) -> None:
        """Count an object as used now.

        Raises:
            NotStoredError: there is no such object.
            OSError: that cannot be noted.
        """
        ...

    def stored(self, below: str = "") -> Iterator[Stored]:
        """Yield all objects, or those whose keys begin with ``below`` and a slash, in any order.

        Raises:
            FileNotFoundError: no key ever had this beginning.
        """
        ...

    def remove_unless(self, key: str, is_needed: Callable[[], bool]) -> bool:
        """Remove an object that nobody needs; return whether nobody did."""
        ...
