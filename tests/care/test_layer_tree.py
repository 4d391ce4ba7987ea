"""The tree of a home's layers, of whatever their parents are said to be."""

from __future__ import annotations

from graphdriver.care.layer_tree import LayerNode, LayerTree


def drawn(tree: LayerTree) -> list[str]:
    return ["  " * depth + node.id for depth, node in tree.walk()]


def test_each_layer_stands_below_its_parent() -> None:
    tree = LayerTree.of(
        [
            LayerNode("top", "middle"),
            LayerNode("other", "base"),
            LayerNode("middle", "base"),
            LayerNode("base", ""),
        ]
    )
    assert drawn(tree) == ["base", "  middle", "    top", "  other"]
    assert [node.id for node in tree.chain("top")] == ["top", "middle", "base"]


def test_what_a_layer_shares_is_all_below_it() -> None:
    tree = LayerTree.of(
        [
            LayerNode("base", "", own_size=100),
            LayerNode("middle", "base", own_size=20),
            LayerNode("top", "middle", own_size=3),
            LayerNode("uncounted", "base"),
            LayerNode("on-uncounted", "uncounted", own_size=1),
            LayerNode("orphan", "gone", own_size=5),
        ]
    )
    shared = {id: node.shared_size for id, node in tree.layers.items()}
    assert shared == {
        "base": 0,
        "middle": 100,
        "top": 120,
        "uncounted": 100,
        "on-uncounted": None,
        "orphan": None,
    }


def test_a_layer_with_a_parent_that_is_gone_is_a_root() -> None:
    tree = LayerTree.of([LayerNode("orphan", "gone"), LayerNode("unknown", None)])
    assert tree.roots == ("orphan", "unknown")


def test_a_circle_of_parents_is_told_and_drawn_once() -> None:
    tree = LayerTree.of(
        [
            LayerNode("a", "c"),
            LayerNode("b", "a"),
            LayerNode("c", "b"),
            LayerNode("own", "own"),
            LayerNode("1-on-it", "b"),
        ]
    )
    assert drawn(tree) == ["b", "  1-on-it", "  c", "    a", "own"]
    assert tree.layers["b"].damage == tree.layers["own"].damage == "its parents lead back to it"
    assert [node.id for node in tree.chain("c")] == ["c", "b", "a"]


def test_a_chain_of_ten_thousand_layers_is_no_deep_call() -> None:
    tree = LayerTree.of(
        LayerNode(f"{n:05}", f"{n - 1:05}" if n else "", own_size=1) for n in range(10_000)
    )
    assert tree.layers["09999"].shared_size == 9_999
    assert [depth for depth, _ in tree.walk()] == list(range(10_000))
