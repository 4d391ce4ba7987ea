"""Which layers stand on which, so that nobody looks through all of them for a layer's children."""

from __future__ import annotations

from collections.abc import Mapping


class Lineage:
    """The layers of a home, by what they stand on.

    Args:
        parents: what each layer stands on; ``""`` for nothing.
    """

    def __init__(self, parents: Mapping[str, str]) -> None:
        self._parents: dict[str, str] = {}
        self._children: dict[str, set[str]] = {}
        for id, parent in parents.items():
            self.add(id, parent)

    def add(self, id: str, parent: str) -> None:
        """Note a new layer."""
        self._parents[id] = parent
        if parent:
            self._children.setdefault(parent, set()).add(id)

    def discard(self, id: str) -> None:
        """Forget a layer; of one that is not known, do nothing."""
        parent = self._parents.pop(id, "")
        siblings = self._children.get(parent, set())
        siblings.discard(id)
        if not siblings:
            self._children.pop(parent, None)

    def first_child(self, id: str) -> str:
        """Return the child whose ID comes first; ``""`` if there is none."""
        return min(self._children.get(id, ()), default="")
