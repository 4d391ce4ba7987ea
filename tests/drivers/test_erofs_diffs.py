"""Diffs of erofs: the bytes that came, and where they are packed instead."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import pytest

from graphdriver import ChangeKind, Driver
from graphdriver.conformance.kit.tree import Facts
from graphdriver.conformance.plugin import tars
from graphdriver.driver import IDMap, mounted
from graphdriver.drivers.erofs.driver import ErofsDriver
from graphdriver.errors import (
    BadArchiveError,
    BrokenStreamError,
    InUseError,
    LayerDamagedError,
)
from graphdriver.layer import pack
from graphdriver.layer.erofs import bounds
from graphdriver.layer.erofs.stored_tar import StoredTar
from tests.drivers.conftest import TakeUp, TakeUpErofs
from tests.drivers.layers import apply, layer, read_diff, recorded
from tests.support.two_layers import TAR_A, TAR_B

pytestmark = pytest.mark.root

MAP = [IDMap(0, 100_000, 65_536)]


@pytest.fixture
def driver(stored: TakeUpErofs) -> ErofsDriver:
    """A driver with an applied layer, and one on it."""
    driver = stored()
    apply(driver, "a", "", TAR_A)
    apply(driver, "b", "a", TAR_B)
    return driver


# --- the bytes that came --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tar",
    [
        b"",
        tars.tar(),
        tars.tar(tars.file(b"a", b"x" * 1000)) + bytes(8 * 512) + b"what follows the end",
        tars.tar(tars.file(b"./b//c", b"odd names"), tars.file(b"a", b"no order")),
        tars.tar(tars.pax([(b"comment", b"none of ours"), (b"mtime", b"1.5")]), tars.file(b"x")),
    ],
    ids=["nothing", "no-entry", "more", "odd", "pax"],
)
def test_a_diff_is_what_was_applied(stored: TakeUpErofs, tar: bytes) -> None:
    driver = stored()
    apply(driver, "a", "", TAR_A)
    for id, parent in (("first", ""), ("upon", "a")):
        apply(driver, id, parent, tar)
        assert read_diff(driver, id, parent) == tar
    with mounted(driver, "upon"):
        assert read_diff(driver, "upon", "a") == tar
    assert read_diff(stored(), "upon", "a") == tar


def test_a_tar_in_the_home_is_given_out_from_memory(driver: ErofsDriver) -> None:
    stream = driver.diff("b", "a")
    assert isinstance(stream, StoredTar)
    with contextlib.closing(stream), stream.in_memory() as part:
        assert part
        assert os.pread(part.fd, part.size, part.offset) == TAR_B


def test_a_diff_under_id_maps_is_what_was_applied(tmp_path: Path) -> None:
    driver = ErofsDriver()
    driver.init(str(tmp_path), (), MAP, MAP)
    try:
        apply(driver, "a", "", TAR_A)
        assert read_diff(driver, "a") == TAR_A
        with mounted(driver, "a") as root:
            assert Path(root, "bin/tool").stat().st_uid == 101_000
    finally:
        driver.cleanup()


def test_an_image_of_before_a_change_of_the_packer_is_given_out_as_it_came(
    driver: ErofsDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*_: object, **__: object) -> bytes:
        raise AssertionError("nothing is packed")

    monkeypatch.setattr(pack.Packer, "read", changed)
    assert read_diff(driver, "a") == TAR_A
    assert read_diff(driver, "b", "a") == TAR_B


def test_the_driver_promises_nothing_about_bytes(driver: ErofsDriver) -> None:
    """With the promise the daemon would keep no record of written layers' tars."""
    assert not driver.capabilities().reproduces_exact_diffs


def test_changes_and_sizes_are_those_of_overlay2(driver: ErofsDriver, take_up: TakeUp) -> None:
    theirs = take_up()
    apply(theirs, "a", "", TAR_A)
    apply(theirs, "b", "a", TAR_B)
    for id, parent in (("a", ""), ("b", "a"), ("b", "")):
        assert list(driver.changes(id, parent)) == list(theirs.changes(id, parent))
        assert driver.diff_size(id, parent) == theirs.diff_size(id, parent)


def test_a_tar_that_repeats_the_parent_s_files_changes_nothing(driver: ErofsDriver) -> None:
    apply(driver, "again", "a", TAR_A)
    assert list(driver.changes("again", "a")) == []
    assert driver.diff_size("again", "a") == 0
    assert driver.diff_size("a", "") > 0


# --- packed ---------------------------------------------------------------------------------------


def test_once_written_to_a_layers_diff_is_that_of_both_parts(driver: ErofsDriver) -> None:
    with mounted(driver, "b") as root:
        Path(root, "written").write_text("12345")
        Path(root, "passwd").unlink()
        Path(root, "bin").joinpath("tool").write_text("changed")
    changes = {change.path: change.kind for change in driver.changes("b", "a")}
    assert changes["/written"] is ChangeKind.ADDED
    assert changes["/etc/hosts"] is ChangeKind.ADDED
    assert changes["/old"] is ChangeKind.DELETED
    assert changes["/bin/tool"] is ChangeKind.MODIFIED
    assert "/passwd" not in changes
    assert driver.diff_size("b", "a") == 5 + len("changed") + 20 + 5
    apply(driver, "copy", "a", read_diff(driver, "b", "a"))
    assert recorded(driver, "copy") == recorded(driver, "b")


def test_a_first_layer_that_was_written_to_is_packed_whole(driver: ErofsDriver) -> None:
    apply(driver, "alone", "", TAR_A)
    with mounted(driver, "alone") as root:
        Path(root, "written").write_text("1")
    apply(driver, "copy", "", read_diff(driver, "alone"))
    assert recorded(driver, "copy") == recorded(driver, "alone")
    assert driver.diff_size("copy", "") == driver.diff_size("alone", "") > 0


def test_a_new_directory_hides_nothing_in_a_diff(driver: ErofsDriver) -> None:
    layer(driver, "c", "b", lambda root: (root / "new").mkdir())
    assert b".wh." not in read_diff(driver, "c", "b")


def test_a_layer_that_is_as_before_again_is_its_tar(driver: ErofsDriver) -> None:
    with mounted(driver, "b") as root:
        Path(root, "written").write_text("1")
        assert read_diff(driver, "b", "a") != TAR_B
        Path(root, "written").unlink()
    assert read_diff(driver, "b", "a") == TAR_B


def without_links(tree: dict[bytes, Facts]) -> dict[bytes, Facts]:
    """A link between a layer and its parent is a copy in the diff, as on overlay2."""
    return {path: facts._replace(file=b"") for path, facts in tree.items()}


@pytest.mark.parametrize("parent", ["", "a"])
def test_a_diff_against_another_ancestor_is_packed(driver: ErofsDriver, parent: str) -> None:
    """``docker build --squash`` asks for it."""
    layer(driver, "c", "b", lambda root: (root / "etc/more").write_text("more"))
    apply(driver, "squashed", parent, read_diff(driver, "c", parent))
    assert without_links(recorded(driver, "squashed")) == without_links(recorded(driver, "c"))
    seen = [change.path for change in driver.changes("c", parent)]
    assert "/etc/hosts" in seen
    assert "/etc/more" in seen


def test_a_written_layer_on_images_is_packed_as_overlay2_packs_it(
    driver: ErofsDriver, take_up: TakeUp
) -> None:
    def edit(root: Path) -> None:
        (root / "etc/passwd").unlink()
        (root / "gone/above").write_text("other")
        os.utime(root / "gone/above", (7, 7))
        (root / "noted").open("a").close()
        os.utime(root / "etc", (8, 8))

    theirs = take_up()
    apply(theirs, "a", "", TAR_A)
    apply(theirs, "b", "a", TAR_B)
    ours: Driver = driver
    for one in (ours, theirs):
        layer(one, "c", "b", edit)
    assert list(ours.changes("c", "b")) == list(theirs.changes("c", "b"))
    assert read_diff(ours, "c", "b") == read_diff(theirs, "c", "b")
    assert ours.diff_size("c", "b") == theirs.diff_size("c", "b")


# --- ApplyDiff ------------------------------------------------------------------------------------


def test_a_tar_upon_what_was_written_is_unpacked_through_the_mount(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    layer(driver, "c", "b", lambda root: (root / "written").write_text("1"))
    driver.apply_diff(
        "c", "b", io.BytesIO(tars.tar(tars.file(b"etc/new"), tars.whiteout(b".wh.gone")))
    )
    assert not (tmp_path / "c" / "applied").exists()
    changes = {change.path: change.kind for change in driver.changes("c", "b")}
    assert changes.keys() == {"/etc", "/etc/new", "/gone", "/written"} | {
        path for path in changes if path.startswith("/gone/")
    }


def test_a_tar_while_the_layer_is_mounted_is_unpacked_through_the_mount(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    driver.create("c", "b", "", {})
    with mounted(driver, "c") as root:
        driver.apply_diff("c", "b", io.BytesIO(tars.tar(tars.file(b"new"))))
        assert Path(root, "new").exists()
    assert os.listdir(tmp_path / "c" / "diff") == ["new"]


def test_a_tar_while_a_first_layer_is_got_is_unpacked_where_it_is_seen(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    driver.create("first", "", "", {})
    root = driver.get("first", "")
    driver.apply_diff("first", "", io.BytesIO(TAR_A))
    assert Path(root, "noted").read_text() == "noted"
    assert driver.get("first", "") == root
    for _ in range(2):
        driver.put("first")
    driver.create("put", "", "", {})
    driver.get("put", "")
    driver.put("put")
    driver.apply_diff("put", "", io.BytesIO(TAR_A))
    assert (tmp_path / "put" / "layer.json").exists()


def test_a_parent_cannot_be_applied_to(driver: ErofsDriver) -> None:
    driver.create("c", "b", "", {})
    driver.create("d", "c", "", {})
    with pytest.raises(InUseError, match="the layer is the parent of layer d"):
        driver.apply_diff("c", "b", io.BytesIO(TAR_B))


class Broken:
    """A tar that breaks off."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, n: int, /) -> bytes:
        if piece := self._data.read(n):
            return piece
        raise BrokenStreamError("the sender is gone")


@pytest.mark.parametrize("most", [bounds.MOST, 1], ids=["image", "tree"])
def test_a_layer_that_was_not_stored_whole_is_refused_until_it_is_removed(
    tmp_path: Path, driver: ErofsDriver, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(bounds, "MOST", most)
    driver.create("c", "b", "", {})
    with pytest.raises(BrokenStreamError):
        driver.apply_diff("c", "b", Broken(TAR_B[:1500]))
    for call in (driver.get, driver.diff, driver.diff_size, driver.changes):
        with pytest.raises(LayerDamagedError, match="layer c is damaged: the record"):
            call("c", "b")
    with pytest.raises(LayerDamagedError, match="layer c is damaged: the record"):
        driver.create("d", "c", "", {})
    driver.remove("c")
    driver._layers._store.settle()
    assert not (tmp_path / "c").exists()
    apply(driver, "c", "b", TAR_B)
    assert read_diff(driver, "c", "b") == TAR_B


def test_a_damaged_tar_has_the_unpackers_error(driver: ErofsDriver, take_up: TakeUp) -> None:
    wrong = TAR_A[:512] + b"\xff" * 512 + TAR_A[1024:]
    texts = []
    for one in (driver, take_up()):
        with pytest.raises(BadArchiveError) as caught:
            apply(one, "wrong", "", wrong)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
