"""Leases: which nodes read which images of a store in place, so that nobody removes these.

A lease is an empty object, ``leases/IMAGE/NODE.lease``. Its age is that of its last renewal, by the
store's own clock. A node gives it back when no layer of the node needs it any more. It ends by itself
after `GRACE`: so does that of a node that died, or was off for so long.

A node takes a lease first, and opens the image then. Whoever removes an image takes its name away
first, and looks for leases then: one of the two sees the other.
"""

from __future__ import annotations

import collections
import contextlib
import io
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Final

from graphdriver.shared.directory import REMOVED
from graphdriver.shared.keys import LEASES
from graphdriver.shared.store import InPlaceStore, NotStoredError, Store, Stored

GRACE: Final = 7 * 86_400.0
"""How long a lease lasts after its last renewal, in seconds. A store may be away for some days."""

RENEWAL: Final = 3600.0
"""How often a node renews its leases, in seconds."""

_LEASE: Final = ".lease"


def take(store: InPlaceStore, image: str, node: str) -> None:
    """Take a node's lease for an image, or renew it.

    Args:
        store: the store.
        image: the key of the image.
        node: letters, digits, dots and dashes.

    Raises:
        OSError: the store cannot be written to; there may be no lease then.
    """
    key = _key(image, node)
    try:
        store.touch(key)
    except NotStoredError:
        store.put(key, io.BytesIO())


def give_back(store: InPlaceStore, image: str, node: str) -> None:
    """End a node's lease for an image; succeed if the node has no lease.

    Raises:
        OSError: the store does not answer, or cannot be written to.
    """
    store.remove(_key(image, node))


def leased(found: list[Stored]) -> set[str]:
    """Return the keys of the images that have a lease, given all objects of a store."""
    return {image_of(one.key) for one in found if _holds(one)}


def is_lease(key: str) -> bool:
    """Tell whether an object is a lease."""
    return key.startswith(LEASES)


def image_of(lease: str) -> str:
    """Return the key of the image that a lease is for."""
    return lease.removeprefix(LEASES).rpartition("/")[0]


def nodes(store: InPlaceStore, image: str) -> list[str]:
    """Return the nodes that have a lease for an image."""
    try:
        found = [one for one in store.stored(_directory(image)) if _holds(one)]
    except FileNotFoundError:  # nobody ever had one
        return []
    return sorted(one.key.rpartition("/")[2].removesuffix(_LEASE) for one in found)


def is_leased(store: Store, image: str) -> bool:
    """Tell whether a node has a lease for an image.

    Raises:
        OSError: the store does not answer.
    """
    return store.in_place is not None and bool(nodes(store.in_place, image))


def remove_unless_leased(store: Store, key: str) -> bool:
    """Remove an object, unless it is an image that a node has a lease for; return whether it was.

    Args:
        store: the store.
        key: the object's key; also what a killed removal left of an image (`REMOVED`).

    Raises:
        OSError: the store does not answer.
    """
    if not store.in_place:
        store.remove(key)
        return True
    return store.in_place.remove_unless(key, lambda: is_leased(store, key.removesuffix(REMOVED)))


class NodeLeases:
    """The leases that this process has taken for a node, some of which it can give back.

    A lease is never given back too early: not while a layer is made that needs it, and not if one may
    have been made since all layers were looked at. A process that ends leaves its leases.

    Args:
        store: the store.
    """

    def __init__(self, store: InPlaceStore) -> None:
        self._store = store
        self._taken: set[tuple[str, str]] = set()
        self._making = collections.Counter[str]()
        self._begun: set[str] = set()
        """The images for which a layer is made, or was begun since all layers were looked at."""
        self._guard = threading.Lock()
        self._calls = threading.Lock()
        """Held while a lease is taken or given back, which takes as long as the store needs."""

    def take(self, image: str, node: str) -> None:
        """Take a lease or renew it; see `take` above."""
        with self._guard:
            self._taken.add((image, node))
        with self._calls:
            take(self._store, image, node)

    @contextlib.contextmanager
    def kept(self, image: str) -> Iterator[None]:
        """Keep leases for an image for the length of a ``with`` block, which makes a layer with it."""
        with self._guard:
            self._making[image] += 1
            self._begun.add(image)
        try:
            yield
        finally:
            with self._guard:
                self._making[image] -= 1

    def taken(self, node: str) -> set[str]:
        """Return the images for which a node may have leases of this process."""
        with self._guard:
            return {image for image, owner in self._taken if owner == node}

    def give_back_rest(self, node: str, needed: Callable[[], Collection[str]]) -> None:
        """Give back the leases that no layer of a node needs.

        Args:
            node: the node.
            needed: returns the images of all its layers, or raises if that cannot be told.

        Raises:
            OSError: the store does not answer, or takes nothing back.
        """
        with self._guard:
            self._begun = set(+self._making)
        for image in self.taken(node).difference(needed()):
            with self._calls:
                with self._guard:
                    if image in self._begun:
                        continue
                give_back(self._store, image, node)
            with self._guard:
                self._taken.discard((image, node))


def _key(image: str, node: str) -> str:
    return f"{_directory(image)}/{node}{_LEASE}"


def _directory(image: str) -> str:
    return f"{LEASES}{image}"


def _holds(one: Stored) -> bool:
    return is_lease(one.key) and one.key.endswith(_LEASE) and one.unused < GRACE
