"""Layers of a home as the page shows them, without a home."""

from __future__ import annotations

from collections.abc import Iterable

from graphdriver.care.home_layers import HomeLayers
from graphdriver.care.layer_tree import LayerNode, LayerTree
from graphdriver.serving.home import Identity


def home_of(
    nodes: Iterable[LayerNode],
    home: str = "/home",
    driver: str = "vfs",
    notes: tuple[str, ...] = (),
) -> HomeLayers:
    """Return what would have been read of a home with these layers."""
    return HomeLayers(home, Identity("docker", driver, 1), LayerTree.of(nodes), None, notes)
