from __future__ import annotations

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.errors import BadArchiveError
from tests.layer.conftest import Layer


def same(layer: Layer, *names: str) -> bool:
    return len({layer.stat(name).st_ino for name in names}) == 1


@pytest.mark.parametrize("target", [b"d/f", b"/d/f", b"./d/f", b"l/f", b"d/../d/f"])
def test_a_target_is_found_as_in_a_chroot(layer: Layer, target: bytes) -> None:
    layer.unpack(
        tars.tar(tars.file(b"d/f"), tars.symlink(b"l", b"/d"), tars.hard_link(b"h", target))
    )
    assert same(layer, "d/f", "h")


def test_a_target_may_be_of_a_layer_below(layer: Layer) -> None:
    (layer.root / "below").write_bytes(b"x")
    layer.unpack(tars.tar(tars.hard_link(b"h", b"below")))
    assert same(layer, "below", "h")


def test_targets_may_come_later_and_be_links_that_wait_themselves(layer: Layer) -> None:
    layer.unpack(
        tars.tar(
            tars.hard_link(b"c", b"b"),
            tars.hard_link(b"b", b"./a"),
            tars.hard_link(b"d/e", b"c"),
            tars.directory(b"d", mtime=5),
            tars.file(b"a", b"late"),
        )
    )
    assert same(layer, "a", "b", "c", "d/e")
    assert layer.stat("d").st_mtime == 5


def test_a_later_entry_of_its_name_wins_over_a_link_that_waits(layer: Layer) -> None:
    layer.unpack(
        tars.tar(
            tars.file(b"h", b"first"),
            tars.hard_link(b"h", b"a"),
            tars.file(b"h", b"later"),
            tars.hard_link(b"g", b"a"),
            tars.file(b"a", b"late"),
        )
    )
    assert layer.read("h") == b"later"
    assert same(layer, "a", "g")


def test_a_link_that_waits_replaces_what_came_before(layer: Layer) -> None:
    layer.unpack(
        tars.tar(tars.file(b"h", b"first"), tars.hard_link(b"h", b"a"), tars.file(b"a", b"late"))
    )
    assert layer.read("h") == b"late"


def test_a_target_that_never_comes_is_an_error_that_names_both(layer: Layer) -> None:
    with pytest.raises(BadArchiveError, match=r"'h' is a hard link to 'a', which is not there"):
        layer.unpack(tars.tar(tars.hard_link(b"h", b"a"), tars.hard_link(b"a", b"h")))


def test_a_link_to_itself_leaves_the_file_as_it_is(layer: Layer) -> None:
    layer.unpack(tars.tar(tars.file(b"a", b"x"), tars.hard_link(b"a", b"a")))
    assert layer.read("a") == b"x"


def test_a_link_to_a_symbolic_link_is_another_name_of_the_link(layer: Layer) -> None:
    layer.unpack(tars.tar(tars.symlink(b"s", b"/nowhere"), tars.hard_link(b"h", b"s")))
    assert same(layer, "s", "h")


@pytest.mark.parametrize("target", [b"d", b".", b"/"])
def test_a_link_to_a_folder_is_an_error(layer: Layer, target: bytes) -> None:
    with pytest.raises(BadArchiveError, match=r"'h'.*hard link to"):
        layer.unpack(tars.tar(tars.directory(b"d"), tars.hard_link(b"h", target)))


def test_targets_that_aufs_keeps_aside_are_linked_and_do_not_stay(layer: Layer) -> None:
    layer.unpack(
        tars.tar(
            tars.directory(b".", mtime=9),
            tars.directory(b".wh..wh.plnk"),
            tars.file(b".wh..wh.plnk/17.5", b"shared"),
            tars.hard_link(b"a", b".wh..wh.plnk/17.5"),
            tars.hard_link(b"d/b", b"/.wh..wh.plnk/17.5"),
        )
    )
    assert layer.names() == [b"a", b"d", b"d/b"]
    assert same(layer, "a", "d/b")
    assert layer.stat("a").st_nlink == 2
    assert layer.stat("").st_mtime == 9


def test_too_many_links_that_wait_are_an_error(
    layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphdriver.layer.write.hard_links.MOST", 10)
    with pytest.raises(BadArchiveError, match="too many hard links"):
        layer.unpack(tars.tar(*[tars.hard_link(b"%d" % n, b"x") for n in range(11)]))


def test_links_that_wait_for_each_other_backwards_are_made_in_one_go(layer: Layer) -> None:
    links = [tars.hard_link(b"%d" % (n + 1), b"%d" % n) for n in range(3000)]
    layer.unpack(tars.tar(*reversed(links), tars.file(b"0")))
    assert layer.stat("3000").st_nlink == 3001


def test_of_two_links_of_a_name_that_wait_the_later_wins(layer: Layer) -> None:
    layer.unpack(
        tars.tar(
            tars.hard_link(b"h", b"a"),
            tars.hard_link(b"h", b"b"),
            tars.file(b"a", b"first"),
            tars.file(b"b", b"second"),
        )
    )
    assert same(layer, "b", "h")


def test_a_link_that_waits_is_gone_with_the_folder_that_a_later_entry_replaces(
    layer: Layer,
) -> None:
    layer.unpack(tars.tar(tars.hard_link(b"d/h", b"a"), tars.file(b"d", b"d"), tars.file(b"a")))
    assert layer.names() == [b"a", b"d"]


def test_a_folder_below_is_no_target_but_a_file_that_comes_in_its_place_is(layer: Layer) -> None:
    (layer.root / "a" / "in").mkdir(parents=True)
    layer.unpack(tars.tar(tars.hard_link(b"h", b"a"), tars.file(b"a")))
    assert same(layer, "a", "h")
    (layer.root / "b").mkdir()
    with pytest.raises(BadArchiveError, match=r"'i'.*hard link to a directory"):
        layer.unpack(tars.tar(tars.hard_link(b"i", b"b"), tars.file(b"c")))


def test_a_target_that_the_parent_has_too_is_linked_as_it_is_when_the_link_comes(
    layer: Layer,
) -> None:
    (layer.root / "a").write_bytes(b"below")
    layer.unpack(
        tars.tar(
            tars.hard_link(b"before", b"a"), tars.file(b"a", b"own"), tars.hard_link(b"after", b"a")
        )
    )
    assert (layer.read("before"), layer.read("after")) == (b"below", b"own")
    assert same(layer, "a", "after")


def test_a_link_comes_before_the_target_that_aufs_keeps_aside(layer: Layer) -> None:
    layer.unpack(
        tars.tar(
            tars.hard_link(b"a", b".wh..wh.plnk/1.2"),
            tars.file(b".wh..wh.plnk/1.2", b"shared"),
            tars.hard_link(b"b", b"a"),
        )
    )
    assert layer.names() == [b"a", b"b"]
    assert same(layer, "a", "b")
