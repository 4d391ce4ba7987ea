"""Damaged images and records: an error or wrong content in one layer, and nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from graphdriver.conformance.kit.tree import record
from graphdriver.conformance.plugin import tars
from graphdriver.driver import mounted
from graphdriver.drivers.erofs.driver import ErofsDriver
from graphdriver.drivers.erofs.layout import RECORD
from graphdriver.errors import GraphDriverError, LayerDamagedError
from graphdriver.files import small_files
from graphdriver.layer.erofs import bounds
from graphdriver.layer.erofs.record import parse
from graphdriver.layer.erofs.stored_tar import PIECE
from tests.drivers.conftest import TakeUpErofs
from tests.drivers.damage import damaged
from tests.drivers.layers import apply, read_diff
from tests.drivers.test_erofs_mounts import images
from tests.support.long import times
from tests.support.two_layers import TAR_A, TAR_B

pytestmark = pytest.mark.root

OFFSET = 4096
"""Where the tar begins in an image."""


@pytest.fixture
def driver(stored: TakeUpErofs) -> ErofsDriver:
    """A driver with a layer that is damaged, one on it, and one that is left alone."""
    driver = stored()
    apply(driver, "a", "", TAR_A)
    apply(driver, "b", "a", TAR_B)
    apply(driver, "sound", "", TAR_A)
    driver._layers._images.unmount_unused()
    return driver


def goes_on(driver: ErofsDriver, home: Path) -> None:
    """Check that sound layers are served, and damaged ones are removed."""
    with mounted(driver, "sound") as root:
        assert Path(root, "noted").read_text() == "noted"
    assert read_diff(driver, "sound") == TAR_A
    apply(driver, "new", "sound", TAR_B)
    for id in ("new", "b", "a"):
        driver.remove(id)
    driver._layers._store.settle()
    driver._layers._images.unmount_unused()
    assert images(home) == []
    assert sorted(os.listdir(home / "l")) == sorted(
        os.path.basename(link)
        for link in (
            driver._layers._layout.link_of("sound"),
            driver._layers._layout.applied_link("sound"),
        )
    )


def flip(path: Path, at: int, bit: int = 0) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


def unlink(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


WAYS = [unlink, empty, replace_by_directory, replace_by_fifo]


@pytest.mark.parametrize("damage", WAYS)
@pytest.mark.parametrize("name", ["layer.json", "layer.erofs"])
def test_a_lost_file_is_an_error_of_that_layer(
    tmp_path: Path, driver: ErofsDriver, name: str, damage: Callable[[Path], None]
) -> None:
    damage(tmp_path / "a" / name)
    for id in ("a", "b"):
        with pytest.raises(LayerDamagedError, match=r"^layer a is damaged: ") as caught:
            driver.get(id, "")
        assert str(tmp_path / "a" / name) in str(caught.value)
        assert str(caught.value).endswith(f"; graphdriver fsck {tmp_path}")
    with contextlib.suppress(GraphDriverError):
        read_diff(driver, "a")
        raise AssertionError("the diff of a damaged layer is whole")
    assert read_diff(driver, "b", "a") == TAR_B
    goes_on(driver, tmp_path)


def test_a_lost_mount_point_is_made_again(
    tmp_path: Path, driver: ErofsDriver, stored: TakeUpErofs
) -> None:
    (tmp_path / "a" / "applied").rmdir()
    again = stored()
    for id in ("a", "b"):
        with mounted(again, id) as root:
            assert Path(root, "noted").read_text() == "noted"
    goes_on(again, tmp_path)


def test_a_lost_tree_is_an_error_of_that_layer(
    tmp_path: Path, driver: ErofsDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST", 1)
    apply(driver, "tree", "sound", TAR_B)
    shutil.rmtree(tmp_path / "tree" / "applied")
    for call in (driver.get, driver.changes):
        with pytest.raises(LayerDamagedError, match="layer tree is damaged: its directory applied"):
            call("tree", "sound")
    driver.remove("tree")
    goes_on(driver, tmp_path)


@pytest.mark.parametrize("name", ["layer.json", "layer.erofs"])
def test_a_layer_of_which_only_a_part_is_left_does_not_look_empty(
    tmp_path: Path, driver: ErofsDriver, name: str
) -> None:
    (tmp_path / "a" / "applied").rmdir()
    (tmp_path / "a" / name).unlink()
    for call in (driver.get, driver.diff, driver.changes):
        with pytest.raises(GraphDriverError, match="was lost"):
            call("a", "")
    goes_on(driver, tmp_path)


def test_a_record_may_be_longer_than_other_small_files(tmp_path: Path, driver: ErofsDriver) -> None:
    path = tmp_path / "a" / RECORD
    pieces = (small_files.LIMIT // 4) * b"sum."
    large = dataclasses.replace(
        parse(path.read_text()), tar_size=len(pieces) // 4 * PIECE, pieces=pieces, changed_size=17
    )
    path.write_text(large.text())
    assert driver.diff_size("a", "") == 17


def test_another_layers_record_is_found_by_the_checksums(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    (tmp_path / "a" / "layer.json").write_bytes((tmp_path / "b" / "layer.json").read_bytes())
    with pytest.raises(LayerDamagedError):
        read_diff(driver, "a")
    goes_on(driver, tmp_path)


@pytest.mark.parametrize("size", [0, 100, OFFSET, OFFSET + 512, OFFSET + len(TAR_A), -1])
def test_a_cut_image_is_an_error_and_never_a_short_diff(
    tmp_path: Path, driver: ErofsDriver, size: int
) -> None:
    image = tmp_path / "a" / "layer.erofs"
    os.truncate(image, size if size >= 0 else image.stat().st_size - 512)
    with contextlib.suppress(GraphDriverError, OSError), mounted(driver, "b") as root:
        record(root)
    try:
        assert read_diff(driver, "a") == TAR_A
        assert size not in range(OFFSET + len(TAR_A))
    except LayerDamagedError as error:
        assert "its tar is damaged on disk" in str(error)
    goes_on(driver, tmp_path)


@pytest.mark.parametrize("seed", range(times(gate=25, long=2000)))
def test_flipped_bits_of_an_image_are_an_error_or_wrong_content(
    tmp_path: Path, driver: ErofsDriver, seed: int
) -> None:
    chance = random.Random(seed)
    image = tmp_path / "a" / "layer.erofs"
    end = OFFSET + len(TAR_A)
    low, high = chance.choice([(1024, 1152), (OFFSET, end), (end, image.stat().st_size)])
    at = chance.randrange(low, high)
    flip(image, at, chance.randrange(8))
    for id in ("a", "b"):
        with contextlib.suppress(GraphDriverError, OSError), mounted(driver, id) as root:
            record(root)
    if OFFSET <= at < end:
        with pytest.raises(LayerDamagedError, match="layer a is damaged: "):
            read_diff(driver, "a")
    else:
        assert read_diff(driver, "a") == TAR_A
    goes_on(driver, tmp_path)


@pytest.mark.parametrize("seed", range(times(gate=25, long=2000)))
def test_a_damaged_record_never_gives_another_tar(
    tmp_path: Path, driver: ErofsDriver, seed: int
) -> None:
    path = tmp_path / "a" / "layer.json"
    path.write_bytes(damaged(path.read_bytes(), random.Random(seed)))
    with contextlib.suppress(GraphDriverError):
        assert read_diff(driver, "a") == TAR_A
    with contextlib.suppress(GraphDriverError), mounted(driver, "b") as root:
        assert Path(root, "noted").read_text() == "noted"
    goes_on(driver, tmp_path)


def test_a_damaged_disk_under_a_long_diff_breaks_it_before_the_damage(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    tar = tars.tar(tars.file(b"long", os.urandom(3 << 20)))
    apply(driver, "long", "", tar)
    flip(tmp_path / "long" / "layer.erofs", OFFSET + (2 << 20))
    got, stream = io.BytesIO(), driver.diff("long", "")
    with contextlib.closing(stream), pytest.raises(LayerDamagedError):
        while True:
            got.write(stream.read(100_000))
    assert 0 < len(got.getvalue()) <= 2 << 20
    assert tar.startswith(got.getvalue())
    driver.remove("long")
    goes_on(driver, tmp_path)
