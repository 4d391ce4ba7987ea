"""The parent and the children of each layer in a home, kept in memory.

Each layer's files name its parent only. To find a layer's children in them, the files of all layers
would have to be read at each Remove.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Iterable
from typing import Final

from graphdriver.errors import GraphDriverError

_OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

_log = logging.getLogger(__name__)


class ParentIndex:
    """The layers of a home by their parents.

    Args:
        read_parent: reads a layer's parent from disk; ``""`` if it has none.
    """

    def __init__(self, read_parent: Callable[[str], str]) -> None:
        self._read_parent = read_parent
        self._parents: dict[str, str] = {}
        self._children: dict[str, set[str]] = {}
        self._unread: set[str] = set()
        """Layers with parents that could not be read yet."""

    def read(self, ids: Iterable[str]) -> None:
        """Read the parents of layers. A layer with damaged files is logged, and left out.

        Raises:
            OSError: this process or the machine is out of descriptors or memory.
        """
        for id in ids:
            try:
                self.add(id, self._read_parent(id))
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    # The layer is whole. If it were left out, its parent could be removed.
                    raise
                self._unread.add(id)
                _log.warning("layer %s cannot be used now: %s", id, error)
            except GraphDriverError as error:
                _log.warning("layer %s cannot be used: %s", id, error)

    def add(self, id: str, parent: str) -> None:
        """Add a layer; ``parent`` is ``""`` if it has none."""
        self._parents[id] = parent
        if parent:
            self._children.setdefault(parent, set()).add(id)

    def discard(self, id: str) -> None:
        """Remove a layer from the index, if it is there."""
        self._unread.discard(id)
        parent = self._parents.pop(id, "")
        siblings = self._children.get(parent, set())
        siblings.discard(id)
        if not siblings:
            self._children.pop(parent, None)

    def first_child(self, id: str) -> str:
        """Return the child with the first ID in alphabetical order; ``""`` if there is no child."""
        for unread in list(self._unread):  # it may be readable by now, and a child of this layer
            with contextlib.suppress(GraphDriverError, OSError):
                self.add(unread, self._read_parent(unread))
                self._unread.discard(unread)
        return min(self._children.get(id, ()), default="")
