"""The drawing of the tree of layers, and the words that are shown for them."""

from __future__ import annotations

import pytest

from graphdriver.care.layer_tree import LayerNode, LayerTree
from graphdriver.care.owners import Owner, OwnerKind
from graphdriver.cli.layer_words import belongs_to, own_owners, short, short_ids, sizes_below
from graphdriver.cli.layers import drawn

IMAGE = Owner(OwnerKind.IMAGE, "sha256:" + "1" * 64, "debian:12")
UNNAMED = Owner(OwnerKind.IMAGE, "sha256:" + "2" * 64, "sha256:" + "2" * 64)
CONTAINER = Owner(OwnerKind.CONTAINER, "3" * 64, "web")


def tree(**parents: str) -> LayerTree:
    return LayerTree.of(LayerNode(id, parent) for id, parent in parents.items())


def lines(tree: LayerTree, *, has_unicode: bool = True) -> list[str]:
    return [prefix + node.id for prefix, node in drawn(tree, has_unicode)]


def test_a_chain_is_a_straight_line() -> None:
    assert lines(tree(a="", b="a", c="b")) == ["a", "b", "c"]


def test_layers_on_the_same_parent_are_branches() -> None:
    forked = tree(a="", b="a", b2="b", c="a", c2="c", c3="c", d="a", other="")
    assert lines(forked) == [
        "a",
        "├─b",
        "│ b2",
        "├─c",
        "│ ├─c2",
        "│ └─c3",
        "└─d",
        "other",
    ]
    assert lines(forked, has_unicode=False) == [
        "a",
        "|-b",
        "| b2",
        "|-c",
        "| |-c2",
        "| `-c3",
        "`-d",
        "other",
    ]


@pytest.mark.parametrize("count", [100, 10_000])
def test_a_deep_tree_stays_narrow(count: int) -> None:
    parents = {"s0": ""}
    for n in range(1, count):
        parents |= {f"s{n}": f"s{n - 1}", f"t{n}": f"s{n - 1}"}
    shown = lines(tree(**parents))
    assert len(shown) == len(parents)
    assert max(map(len, shown)) < 40


def test_layers_whose_parents_lead_in_a_circle_are_drawn_once() -> None:
    assert sorted(line.lstrip("├└─│ ") for line in lines(tree(a="b", b="a", c="gone"))) == [
        "a",
        "b",
        "c",
    ]


def test_ids_are_as_short_as_all_of_them_differ() -> None:
    one, other = "a" * 63 + "1", "a" * 20 + "2" * 44
    assert short(one) == "a" * 12
    assert short(f"{one}-init") == "a" * 12 + "-init"
    assert short("s5h4usgr925dobb8cyv0g8aty") == "s5h4usgr925d"
    assert short("a-name-that-nobody-made-of-numbers") == "a-name-that-nobody-made-of-numbers"
    assert list(short_ids([one, other]).values()) == ["a" * 24, "a" * 20 + "2222"]
    assert (
        short("a" * 100_000) == "a" * 100_000
    )  # a hostile plugin's: comparing such takes for ever
    assert list(short_ids([one, f"{one}-init"]).values()) == ["a" * 12, "a" * 12 + "-init"]


def test_an_owner_is_named_at_its_topmost_layer_and_counted_below() -> None:
    found = LayerTree.of(
        [
            LayerNode("a", "", owners=(IMAGE, UNNAMED, CONTAINER)),
            LayerNode("b", "a", owners=(IMAGE, CONTAINER)),
            LayerNode("c", "b", owners=(CONTAINER,)),
            LayerNode("d", "b", owners=()),
            LayerNode("e", "b", owners=None),
        ]
    )
    words = {id: str(belongs_to(found, node)) for id, node in found.layers.items()}
    assert words == {
        "a": "image 222222222222",
        "b": "debian:12",
        "c": "container web",
        "d": "nothing that the engine knows",
        "e": "-",
    }
    assert own_owners(found, found.layers["b"]) == [IMAGE]


def test_a_damaged_layer_names_what_is_lost_with_it() -> None:
    damaged = LayerNode("a", "", owners=(IMAGE,), damage="its directory is gone")
    found = LayerTree.of([damaged])
    assert belongs_to(found, found.layers["a"]) == "DAMAGED: debian:12"


def test_the_size_below_tells_whether_all_of_it_was_counted() -> None:
    found = LayerTree.of(
        [
            LayerNode("a", "", own_size=1000),
            LayerNode("b", "a"),
            LayerNode("c", "b", own_size=1),
            LayerNode("d", "gone", own_size=5),
            LayerNode("e", "d"),
        ]
    )
    assert sizes_below(found) == {"a": "0B", "b": "1kB", "c": "1kB+", "d": "-", "e": "5B+"}
