"""The layers of a home as a tree, with all that the driver, the plugin and the engine know of each.

Nothing of it is trusted to be a tree: a parent may be gone, and after damage the parents of a layer may
lead back to it. Both are told, and every layer is found exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from graphdriver.care.owners import Owner


@dataclass(frozen=True, slots=True)
class LayerNode:
    """A layer and its place in the tree; None: unknown.

    Attributes:
        id: the layer.
        parent: the ID of its parent, which may not exist; ``""``: it has none.
        path: the directory with its own content; ``""`` if it has none.
        own_size: bytes on disk of its own files, without the layers below.
        inodes: the number of its own files and directories.
        created: when it was made, in seconds since 1970.
        applied: when its tar was applied, in seconds since 1970; None also if it has no tar.
        gets: how many Gets of it came since the plugin started.
        last_get: when the last one came, in seconds since 1970.
        got_by: the process that sent it: ``dockerd (1234)``; ``""`` if none did.
        mounted: whether it is mounted.
        references: how many Gets have no Put yet.
        owners: what it belongs to, in the engine's words; None: the engine's records were not read.
        unfinished: whether its tar was not applied to the end, so that only Remove takes it.
        damage: why it cannot be used, in one sentence without a full stop; ``""``: nothing is known.
        children: the IDs of the layers on it, sorted; set by `LayerTree.of`.
        shared_size: bytes on disk of all layers below it; set by `LayerTree.of`. None if one of them is
            unknown.
    """

    id: str
    parent: str | None
    path: str = ""
    own_size: int | None = None
    inodes: int | None = None
    created: float | None = None
    applied: float | None = None
    gets: int | None = None
    last_get: float | None = None
    got_by: str | None = None
    mounted: bool | None = None
    references: int | None = None
    owners: tuple[Owner, ...] | None = None
    unfinished: bool = False
    damage: str = ""
    children: tuple[str, ...] = ()
    shared_size: int | None = None


@dataclass(frozen=True, slots=True)
class LayerTree:
    """All layers of a home.

    Attributes:
        layers: each layer by its ID; parents come before their children, siblings sorted by ID.
        roots: the IDs of the layers that no other layer leads to: without a parent, with one that is
            gone or unknown, and one of each circle of parents.
    """

    layers: Mapping[str, LayerNode]
    roots: tuple[str, ...]

    @classmethod
    def of(cls, nodes: Iterable[LayerNode]) -> LayerTree:
        """Return the tree of some layers, each given once, in any order."""
        given = {node.id: node for node in sorted(nodes, key=lambda node: node.id)}
        children: dict[str, list[str]] = {id: [] for id in given}
        roots = []
        for id, node in given.items():
            if node.parent in children:
                children[node.parent].append(id)
            else:
                roots.append(id)
        layers: dict[str, LayerNode] = {}

        def place(root: str) -> None:
            waiting = [root]
            while waiting:
                node = given[waiting.pop()]
                mine = tuple(id for id in children[node.id] if id not in layers and id != root)
                above = layers.get(node.parent or "")
                shared = _whole_size(above) if above else None
                layers[node.id] = replace(
                    node, children=mine, shared_size=0 if node.parent == "" else shared
                )
                waiting += reversed(mine)

        for root in roots:
            place(root)
        for id in list(given):
            if id not in layers:
                # Nothing leads to it from a root, so its parents end in a circle.
                first = _in_circle(given, id)
                given[first] = replace(given[first], damage="its parents lead back to it")
                roots.append(first)
                place(first)
        return cls(layers, tuple(roots))

    def walk(self) -> Iterator[tuple[int, LayerNode]]:
        """Yield each layer and how many layers are above it in the drawn tree, parents first."""
        depths: dict[str, int] = {}
        for id, node in self.layers.items():
            depths.update(dict.fromkeys(node.children, depths.get(id, 0) + 1))
            yield depths.get(id, 0), node

    def chain(self, id: str) -> Iterator[LayerNode]:
        """Yield a layer, its parent, and so on down to one without a parent that is known."""
        seen = set()
        while id in self.layers and id not in seen:
            seen.add(id)
            yield self.layers[id]
            id = self.layers[id].parent or ""


def _in_circle(given: Mapping[str, LayerNode], id: str) -> str:
    """Return the first layer that comes twice when the parents of a layer are followed."""
    seen = set()
    while id not in seen:
        seen.add(id)
        id = given[id].parent or ""
    return id


def _whole_size(node: LayerNode) -> int | None:
    """Return the size of a layer and all below it."""
    if node.own_size is None or node.shared_size is None:
        return None
    return node.own_size + node.shared_size
