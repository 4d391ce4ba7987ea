"""Each driver's class tells which layers are in a home, without taking it up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Driver
from graphdriver.abilities import Usage, ability
from graphdriver.drivers.loading import load
from graphdriver.homes import ReadsHome, StoredLayer
from tests.drivers.conftest import TakeUpErofs
from tests.drivers.every import OVERLAYS, TREE, serving
from tests.drivers.layers import apply, layer
from tests.support.two_layers import TAR_A, TAR_B

pytestmark = pytest.mark.root


@pytest.fixture
def home(name: str, data_root: Path) -> Iterator[Path]:
    """A home that is served, with three layers: ``top`` on ``middle`` on ``base``."""
    with serving(name, data_root) as driver:
        fill(driver)
        yield data_root


def fill(driver: Driver) -> None:
    apply(driver, "base", "", TAR_A)
    apply(driver, "middle", "base", TAR_B)
    layer(driver, "top", "middle", lambda root: (root / "new").write_text("new"))


def read(name: str, home: Path) -> dict[str, StoredLayer]:
    reader = ability(load(name), ReadsHome)
    assert reader is not None
    return {one.id: one for one in reader.stored_layers(str(home))}


def names_in(home: Path) -> set[str]:
    return {str(path) for path in home.rglob("*")}


def test_layers_and_parents(name: str, home: Path) -> None:
    before = names_in(home)
    found = read(name, home)
    assert {id: one.parent for id, one in found.items()} == {
        "base": "",
        "middle": "base",
        "top": "middle",
    }
    assert {one.path for one in found.values()} == {f"{home}/{id}/{TREE[name]}" for id in found}
    assert names_in(home) == before, "nothing is written"


def test_a_home_without_layers(name: str, data_root: Path) -> None:
    assert read(name, data_root) == {}
    assert list(data_root.iterdir()) == []


def test_what_is_being_made_or_removed_is_no_layer(name: str, home: Path) -> None:
    for other in (".staging/half", ".trash/gone", "being-deleted"):
        (home / other).mkdir()
    (home / "being-deleted").chmod(0o1000)
    (home / "file").touch()
    (home / "dangling").symlink_to("nowhere")
    assert set(read(name, home)) == {"base", "middle", "top"}


def test_a_damaged_layer_is_told_too(name: str, home: Path) -> None:
    (home / "lost").mkdir()
    (home / "lost" / {"vfs": "made"}.get(name, "lower")).write_bytes(b"\xff../\x1b")
    found = read(name, home)
    assert found["lost"] == StoredLayer("lost", None, "")
    assert found["top"].parent == "middle"


def test_a_parent_that_is_gone(name: str, home: Path) -> None:
    (home / "middle").rename(home / ".away")
    top = read(name, home)["top"]
    (home / ".away").rename(home / "middle")
    # Only the filesystem knows the parent of a snapshot, by its number.
    assert top.parent == (None if name == "btrfs" else "middle")


def test_erofs_knows_the_size_of_what_was_applied(stored: TakeUpErofs, tmp_path: Path) -> None:
    fill(stored())
    found = read("erofs", tmp_path)
    image, upper = tmp_path / "middle/layer.erofs", tmp_path / "middle/diff"
    assert found["middle"].beside == (str(image),)
    assert found["middle"].usage == Usage(
        512 * (image.stat().st_blocks + upper.stat().st_blocks), 2
    )
    assert found["top"].usage is None, "somebody wrote to it, so it has to be counted"


def test_names_of_the_driver_are_no_layers(name: str, home: Path) -> None:
    if name in OVERLAYS:
        assert (home / "l").is_dir()
    assert "l" not in read(name, home)
