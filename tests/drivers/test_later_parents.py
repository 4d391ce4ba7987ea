"""Layers that are filled before their parent is known, as containerd unpacks several at once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Driver, mounted
from graphdriver.abilities import TakesParentLater, ability
from graphdriver.conformance.kit.tree import record
from graphdriver.conformance.plugin import tars
from graphdriver.drivers.erofs import applied
from graphdriver.errors import BadArchiveError, LayerDamagedError
from tests.drivers.every import EVERY, OVERLAYS, serving

pytestmark = pytest.mark.root

BASE = tars.tar(
    tars.directory(b".", 0o711, uid=7, mtime=500),
    tars.directory(b"etc", 0o750, uid=3, gid=4, mtime=1000),
    tars.file(b"etc/hosts", b"below", uid=5, mtime=2000),
    tars.directory(b"usr", mtime=3000),
    tars.directory(b"usr/lib", 0o750, gid=9, mtime=4000),
    tars.file(b"usr/lib/libc", b"library", mtime=6000),
    tars.symlink(b"lib", b"usr/lib", mtime=7000),
)
MIDDLE = tars.tar(
    tars.file(b"etc/new", mtime=8000),
    tars.whiteout(b"etc/.wh.hosts"),
    tars.file(b"lib/new", b"in usr/lib", mtime=8000),
    tars.hard_link(b"lib/again", b"usr/lib/libc"),
)
TOP = tars.tar(
    tars.directory(b"etc", 0o700, mtime=9000),
    tars.file(b"etc/new", b"newer", mtime=9000),
    tars.directory(b"usr/lib", 0o755, mtime=9000),
    tars.whiteout(b"usr/lib/.wh..wh..opq"),
    tars.file(b"usr/lib/only", mtime=9000),
)
ROOT = tars.tar(tars.whiteout(b".wh..wh..opq"), tars.directory(b"last", mtime=9000))
SECOND = tars.tar(
    tars.file(b"last/new", mtime=9000),
    tars.directory(b"etc", mtime=9000),
    tars.file(b"etc/new", mtime=9000),
)
OLD = tars.pax([(b"mtime", b"-9999999999")]) + tars.file(b"lib/old")
"""An image does not hold the time of this file."""
NOT_HELD = tars.tar(
    tars.file(b"etc/new", mtime=8000),
    tars.whiteout(b"etc/.wh.hosts"),
    OLD,
)
NOT_HELD_FIRST = tars.tar(
    tars.directory(b"."),
    tars.directory(b"lib", mtime=8000),
    OLD,
    tars.directory(b"etc"),
    tars.directory(b"usr"),
)


@pytest.fixture(params=OVERLAYS)
def driver(request: pytest.FixtureRequest, home: Path) -> Iterator[Driver]:
    with serving(request.param, home) as driver:
        yield driver


def later(driver: Driver) -> TakesParentLater:
    found = ability(driver, TakesParentLater)
    assert found is not None
    return found


def in_order(driver: Driver, chain: tuple[bytes, ...]) -> str:
    parent = ""
    for number, tar in enumerate(chain):
        driver.create(f"o{number}", parent, "", {})
        driver.apply_diff(f"o{number}", parent, io.BytesIO(tar))
        parent = f"o{number}"
    return parent


def afterwards(driver: Driver, chain: tuple[bytes, ...]) -> str:
    """Fill all layers, the last one first; then give each its parent."""
    for number, tar in reversed([*enumerate(chain)]):
        driver.create(f"a{number}", "", "", {})
        later(driver).apply_before_parent(f"a{number}", io.BytesIO(tar))
    parent = ""
    for number in range(len(chain)):
        assert later(driver).awaits_parent(f"a{number}")
        later(driver).settle(f"a{number}", parent)
        parent = f"a{number}"
        assert number == 0 or not later(driver).awaits_parent(parent)
    return parent


def seen(driver: Driver, id: str) -> object:
    with mounted(driver, id) as path:
        return Path(path).stat().st_mode, Path(path).stat().st_uid, record(path)


def diff(driver: Driver, id: str, parent: str) -> bytes:
    stream = driver.diff(id, parent)
    try:
        return b"".join(iter(lambda: stream.read(1 << 20), b""))
    finally:
        stream.close()


@pytest.mark.parametrize(
    "chain",
    [
        (BASE,),
        (BASE, MIDDLE),
        (BASE, MIDDLE, TOP),
        (BASE, MIDDLE, TOP, ROOT, SECOND),
        (BASE, NOT_HELD, TOP),
        (NOT_HELD_FIRST, TOP),
    ],
)
def test_the_layers_are_the_same_as_those_that_were_made_in_order(
    driver: Driver, chain: tuple[bytes, ...]
) -> None:
    first, other = in_order(driver, chain), afterwards(driver, chain)
    assert seen(driver, other) == seen(driver, first)
    for number in range(len(chain)):
        names = [(f"{kind}{number}", f"{kind}{number - 1}" if number else "") for kind in "oa"]
        wanted, found = (diff(driver, *one) for one in names)
        assert found == wanted
        wanted_changes, found_changes = (driver.changes(*one) for one in names)
        assert set(found_changes) == set(wanted_changes)
        assert driver.diff_size(*names[1]) == driver.diff_size(*names[0])


def test_a_tar_that_describes_all_but_its_root_is_indexed_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = tars.tar(tars.directory(b"etc", mtime=9000), tars.file(b"etc/new", mtime=9000))
    with serving("erofs", home) as driver:
        first = in_order(driver, (BASE, usual))
        monkeypatch.setattr(applied, "index_again", None)
        other = afterwards(driver, (BASE, usual))
        assert seen(driver, other) == seen(driver, first)
        names = "layer.erofs", "layer.json"
        for name in names:
            assert (home / other / name).read_bytes() == (home / first / name).read_bytes()
        assert not (home / other / ".unsettled").exists()


def test_an_empty_layer_can_get_a_parent_as_well(driver: Driver) -> None:
    in_order(driver, (BASE,))
    driver.create("empty", "", "", {})
    assert later(driver).awaits_parent("empty")
    later(driver).settle("empty", "o0")
    assert seen(driver, "empty") == seen(driver, "o0")
    assert not driver.changes("empty", "o0")


def test_a_layer_that_was_filled_otherwise_cannot_get_one(driver: Driver) -> None:
    if driver.driver_name == "erofs":
        with mounted(driver, in_order(driver, (BASE,))) as path:
            (Path(path) / "new").write_text("by hand")
    else:
        in_order(driver, (BASE,))
    assert not later(driver).awaits_parent("o0")
    driver.create("child", "o0", "", {})
    assert not later(driver).awaits_parent("child")


@pytest.mark.parametrize("tar", [BASE, NOT_HELD_FIRST], ids=["image", "tree"])
def test_a_stored_layer_that_was_written_to_cannot_get_one(home: Path, tar: bytes) -> None:
    with serving("erofs", home) as driver:
        driver.create("a", "", "", {})
        later(driver).apply_before_parent("a", io.BytesIO(tar))
        with mounted(driver, "a") as path:
            assert not later(driver).awaits_parent("a")
            (Path(path) / "new").write_text("by hand")
        assert not later(driver).awaits_parent("a")


def test_a_hard_link_to_nothing_is_refused_by_its_name(driver: Driver) -> None:
    in_order(driver, (BASE,))
    driver.create("a", "", "", {})
    later(driver).apply_before_parent("a", io.BytesIO(tars.tar(tars.hard_link(b"x", b"nothing"))))
    with pytest.raises(BadArchiveError, match="'x' is a hard link to 'nothing'"):
        later(driver).settle("a", "o0")
    driver.remove("a")
    driver.remove("o0")


def test_a_damaged_tar_is_refused_when_it_comes(driver: Driver) -> None:
    driver.create("a", "", "", {})
    with pytest.raises(BadArchiveError):
        later(driver).apply_before_parent("a", io.BytesIO(b"x" * 2048))


def test_a_damaged_note_is_damage_of_the_layer(driver: Driver, home: Path) -> None:
    driver.create("a", "", "", {})
    later(driver).apply_before_parent("a", io.BytesIO(NOT_HELD))
    (home / "a/.unsettled").write_text("{}")
    with pytest.raises(LayerDamagedError, match="depends on the layers below"):
        later(driver).settle("a", "")


@pytest.mark.parametrize("name", sorted(set(EVERY).difference(OVERLAYS)))
def test_drivers_that_copy_their_parent_cannot_do_it(name: str) -> None:
    assert ability(EVERY[name](), TakesParentLater) is None
