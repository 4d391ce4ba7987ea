from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.errors import BadArchiveError
from graphdriver.layer.overlay.form import UpperDirectory
from tests.layer.conftest import Layer
from tests.support.overlays import opened


@pytest.fixture
def child(layer: Layer) -> Layer:
    """A layer that begins as a copy of a parent with a few things in it."""
    for folder in ("d", "d/sub", "d/sub/deep", "e"):
        (layer.root / folder).mkdir()
    for name in ("f", "d/f", "d/sub/f", "d/sub/deep/f", "e/f"):
        (layer.root / name).write_bytes(b"old")
    return layer


def test_a_whiteout_deletes_a_file_of_below(child: Layer) -> None:
    child.unpack(tars.tar(tars.whiteout(b".wh.f"), tars.whiteout(b"d/.wh.f")))
    assert b"f" not in child.names()
    assert b"d/f" not in child.names()
    assert b"d/sub/f" in child.names()


def test_a_whiteout_for_a_folder_removes_its_whole_tree(child: Layer) -> None:
    child.unpack(tars.tar(tars.whiteout(b".wh.d")))
    assert child.names() == [b"e", b"e/f", b"f"]


def test_a_whiteout_for_what_is_not_there_does_nothing(child: Layer) -> None:
    before = child.names()
    child.unpack(tars.tar(tars.whiteout(b".wh.nothing")))
    assert child.names() == before


def test_a_whiteout_hides_below_but_not_the_same_layers_entry_in_either_order(
    child: Layer,
) -> None:
    for entries in itertools.permutations([tars.whiteout(b".wh.f"), tars.file(b"f", b"new")]):
        child.unpack(tars.tar(*entries))
        assert child.read("f") == b"new"


@pytest.mark.parametrize(
    "order", list(itertools.permutations(range(3))), ids=lambda order: "".join(map(str, order))
)
def test_a_folder_that_is_deleted_and_made_anew_holds_only_the_new(
    child: Layer, order: tuple[int, ...]
) -> None:
    entries = [tars.whiteout(b".wh.d"), tars.directory(b"d", mtime=5), tars.file(b"d/sub/new")]
    child.unpack(tars.tar(*[entries[i] for i in order]))
    assert child.names() == [b"d", b"d/sub", b"d/sub/new", b"e", b"e/f", b"f"]
    assert child.stat("d").st_mtime == 5


@pytest.mark.parametrize(
    "order", list(itertools.permutations(range(4))), ids=lambda order: "".join(map(str, order))
)
def test_an_opaque_mark_hides_what_is_below_wherever_it_stands(
    child: Layer, order: tuple[int, ...]
) -> None:
    entries = [
        tars.whiteout(b"d/.wh..wh..opq"),
        tars.directory(b"d"),
        tars.file(b"d/new"),
        tars.file(b"d/sub/deep/new"),
    ]
    child.unpack(tars.tar(*[entries[i] for i in order]))
    assert [n for n in child.names() if n.startswith(b"d/")] == [
        b"d/new",
        b"d/sub",
        b"d/sub/deep",
        b"d/sub/deep/new",
    ]
    assert b"e/f" in child.names()


def test_an_opaque_mark_in_the_root_empties_it(child: Layer) -> None:
    child.unpack(tars.tar(tars.file(b"e/new"), tars.whiteout(b".wh..wh..opq")))
    assert child.names() == [b"e", b"e/new"]


def test_a_folder_that_stays_keeps_its_time_when_it_is_cleared(child: Layer) -> None:
    child.unpack(
        tars.tar(
            tars.directory(b"d", mtime=5),
            tars.directory(b"d/sub", mtime=6),
            tars.directory(b"d/sub/deep", mtime=7),
            tars.whiteout(b"d/.wh..wh..opq"),
        )
    )
    assert [child.stat(n).st_mtime for n in ("d", "d/sub", "d/sub/deep")] == [5, 6, 7]
    assert [n for n in child.names() if n.startswith(b"d/")] == [b"d/sub", b"d/sub/deep"]


def test_a_first_layer_has_nothing_below_so_whiteouts_do_nothing(layer: Layer) -> None:
    layer.unpack(
        tars.tar(
            tars.file(b"f"),
            tars.file(b"d/f"),
            tars.whiteout(b".wh.f"),
            tars.whiteout(b".wh.d"),
            tars.whiteout(b"d/.wh..wh..opq"),
        )
    )
    assert layer.names() == [b"d", b"d/f", b"f"]


def test_links_are_removed_and_never_followed(child: Layer) -> None:
    (child.root / "l").symlink_to("/e")
    (child.root / "d" / "l").symlink_to("../e")
    child.unpack(tars.tar(tars.whiteout(b".wh.l"), tars.whiteout(b".wh.d")))
    assert child.names() == [b"e", b"e/f", b"f"]


def test_a_tree_3000_folders_deep_is_deleted(layer: Layer) -> None:
    fd = os.open(layer.root, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    layer.unpack(tars.tar(tars.file(b"new"), tars.whiteout(b".wh.d")))
    assert layer.names() == [b"new"]


@pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh...", b"d/.wh..", b"d/.wh..."])
def test_a_whiteout_for_no_name_is_an_error_and_deletes_nothing(child: Layer, name: bytes) -> None:
    before = child.names()
    with pytest.raises(BadArchiveError, match="whiteout without a name"):
        child.unpack(tars.tar(tars.whiteout(name)))
    assert child.names() == before


def test_aufs_own_names_are_left_out(layer: Layer) -> None:
    layer.unpack(
        tars.tar(
            tars.whiteout(b".wh..wh.aufs"),
            tars.directory(b".wh..wh.orph"),
            tars.file(b".wh..wh.orph/x"),
            tars.file(b"f"),
        )
    )
    assert layer.names() == [b"f"]


def test_a_folder_that_is_called_like_a_whiteout_is_an_error(layer: Layer) -> None:
    with pytest.raises(BadArchiveError, match="called like a whiteout"):
        layer.unpack(tars.tar(tars.file(b".wh.d/f")))


def is_whiteout(layer: Layer, name: str) -> bool:
    found = layer.stat(name)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


@pytest.fixture
def on_a_lower(tmp_path: Path) -> Iterator[Callable[[int], UpperDirectory]]:
    """The form of an upper folder that stands on one with a file and a folder."""
    lower = tmp_path / "lower"
    (lower / "d").mkdir(parents=True)
    (lower / "f").touch()
    with opened(lower) as fds:
        yield lambda fd: UpperDirectory(fd, fds)


def is_opaque(layer: Layer, name: str) -> bool:
    return "trusted.overlay.opaque" in os.listxattr(layer.path(name))


def test_in_an_overlay_a_whiteout_is_a_device_and_an_opaque_mark_an_attribute(
    layer: Layer, on_a_lower: Callable[[int], UpperDirectory]
) -> None:
    layer.unpack(
        tars.tar(
            tars.whiteout(b".wh.f"),
            tars.directory(b"d"),
            tars.whiteout(b"d/.wh..wh..opq"),
            tars.file(b"d/f"),
        ),
        form=on_a_lower,
    )
    assert is_whiteout(layer, "f")
    assert is_opaque(layer, "d")
    assert layer.read("d/f") == b"data"


def test_in_an_overlay_the_layers_own_entry_stands_in_either_order(
    layer: Layer, on_a_lower: Callable[[int], UpperDirectory]
) -> None:
    for entries in itertools.permutations([tars.whiteout(b".wh.f"), tars.file(b"f", b"new")]):
        layer.unpack(tars.tar(*entries), form=on_a_lower)
        assert layer.read("f") == b"new"


@pytest.mark.parametrize(
    "made", [tars.directory(b"d"), tars.file(b"d/f")], ids=["entry", "implied"]
)
def test_in_an_overlay_a_folder_made_anew_is_opaque_in_either_order(
    layer: Layer, on_a_lower: Callable[[int], UpperDirectory], made: bytes
) -> None:
    layer.unpack(tars.tar(tars.whiteout(b".wh.d"), made), form=on_a_lower)
    assert is_opaque(layer, "d")


def test_in_an_overlay_a_whiteout_after_its_folder_makes_it_opaque(
    layer: Layer, on_a_lower: Callable[[int], UpperDirectory]
) -> None:
    layer.unpack(tars.tar(tars.directory(b"d"), tars.whiteout(b".wh.d")), form=on_a_lower)
    assert is_opaque(layer, "d")


def test_in_an_overlay_a_whiteout_stays_though_a_device_of_its_name_cannot_be_made(
    layer: Layer, on_a_lower: Callable[[int], UpperDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphdriver.layer.write.inode.in_user_namespace", lambda: True)
    device = tars.header(b"f", b"4", device=(7, 0))
    layer.unpack(tars.tar(tars.whiteout(b".wh.f"), device), form=on_a_lower)
    assert is_whiteout(layer, "f")


def test_in_an_overlay_a_copied_up_folder_has_nothing_of_one_whose_inode_number_it_got(
    place: Path,
) -> None:
    """Ext4 gives such a number at once."""
    for name in ("gone", "kept"):
        (place / "lower" / name).mkdir(parents=True)
        (place / "lower" / name / "f").touch()
    upper = Layer(place / "upper")
    upper.root.mkdir()
    entries = [
        tars.directory(b"gone"),
        tars.whiteout(b"gone/.wh.f"),
        tars.file(b"gone/f"),
        tars.header(b"gone", b"3", device=(0, 0)),
        tars.file(b"kept/own"),
        tars.file(b"kept/f"),
        tars.header(b"kept/f", b"3", device=(0, 0)),
    ]
    with opened(place / "lower") as fds:
        upper.unpack(tars.tar(*entries), form=lambda fd: UpperDirectory(fd, fds))
    assert upper.names() == [b"kept", b"kept/own"]


def test_what_a_whiteout_left_is_not_looked_at_again(
    layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a mark for each of many files would cost the square of their number."""
    layer.unpack(tars.tar(tars.directory(b"d"), tars.directory(b"d/e"), tars.file(b"d/e/old")))
    looks = 0

    def counted(name: bytes, *, dir_fd: int) -> os.stat_result:
        nonlocal looks
        looks += 1
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)

    monkeypatch.setattr("graphdriver.layer.write.plain_tree.os.lstat", counted)
    files = [tars.file(b"d/e/%d" % n) for n in range(50)]
    layer.unpack(tars.tar(*files, *[tars.whiteout(b"d/.wh..wh..opq")] * 50, *files))
    assert len(layer.names()) == 52
    assert looks < 50 * 5


def test_too_many_hard_links_in_old_folders_are_an_error(
    layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphdriver.layer.write.plain_tree.MOST_LINKS_SIZE", 2000)
    layer.unpack(tars.tar(tars.directory(b"d"), tars.file(b"d/f")))
    links = [tars.hard_link(b"%d" % n, b"d/f") for n in range(30)]
    with pytest.raises(BadArchiveError, match="too many hard links"):
        layer.unpack(tars.tar(*links))


def test_another_name_of_an_old_file_is_deleted_though_a_link_to_it_came(layer: Layer) -> None:
    layer.unpack(tars.tar(tars.file(b"a", b"old"), tars.file(b"b", b"old")))
    layer.unpack(tars.tar(tars.hard_link(b"h", b"a"), tars.whiteout(b".wh.a")))
    assert layer.names() == [b"b", b"h"]


def test_a_deleted_link_is_not_followed_any_more(child: Layer) -> None:
    """Though the folder that it is in was reached through it."""
    (child.root / "d" / "s").symlink_to("/d/sub")
    (child.root / "l").symlink_to("d/s/..")
    child.unpack(tars.tar(tars.file(b"l/one"), tars.whiteout(b"l/.wh.s"), tars.file(b"l/two")))
    assert {b"d/one", b"d/two"} <= set(child.names())
    assert stat.S_ISDIR(child.stat("d/s").st_mode)


@pytest.mark.parametrize(
    "again",
    [
        [tars.symlink(b"s", b"x"), tars.symlink(b"s", b"x"), tars.whiteout(b".wh.f")],
        [tars.whiteout(b".wh..wh..opq"), tars.whiteout(b".wh.f")],
        [tars.directory(b"o"), tars.whiteout(b".wh.o"), tars.whiteout(b".wh.f")],
    ],
    ids=["replaced links", "opaque marks", "deleted folders"],
)
def test_a_folder_far_down_is_looked_up_below_once(
    layer: Layer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: list[bytes]
) -> None:
    """Else each such entry would cost as many steps as it is deep, in each of the layers below."""

    def opens(depth: int) -> int:
        way = b"d/" * depth
        lower, upper = tmp_path / f"lower-{depth}", Layer(tmp_path / f"upper-{depth}")
        os.makedirs(lower / os.fsdecode(way))
        (lower / os.fsdecode(way) / "f").touch()
        upper.root.mkdir()
        calls = 0
        real_open = os.open

        def counted(*arguments: Any, **more: Any) -> int:
            nonlocal calls
            calls += 1
            return real_open(*arguments, **more)

        placed = [tars.gnu_long(b"L", way + entry[:100].rstrip(b"\0")) + entry for entry in again]
        with opened(lower) as fds, monkeypatch.context() as patched:
            patched.setattr(os, "open", counted)
            upper.unpack(tars.tar(*placed * 20), form=lambda fd: UpperDirectory(fd, fds))
        return calls

    way_down = opens(60) - opens(10)
    assert way_down < 50 * 10
