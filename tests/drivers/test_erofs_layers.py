"""Which directories a layer of erofs is mounted on, and what it shows."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.driver import mounted
from graphdriver.drivers.erofs import driver as erofs_driver
from graphdriver.drivers.erofs import layers as erofs_layers
from graphdriver.drivers.erofs.driver import ErofsDriver
from graphdriver.drivers.erofs.probe import probe_erofs
from graphdriver.drivers.overlay import layers as overlay_layers
from graphdriver.drivers.overlay import mounts as overlay_mounts
from graphdriver.layer.erofs import bounds
from graphdriver.linux.mountinfo import mount_points
from tests.drivers.conftest import TakeUp, TakeUpErofs
from tests.drivers.layers import apply, layer, read_diff, recorded
from tests.support.two_layers import TAR_A, TAR_B

pytestmark = pytest.mark.root

FIRST = tars.tar(tars.directory(b"d", mtime=1), tars.file(b"d/first", b"1", mtime=1))
SECOND = tars.tar(tars.directory(b"d", mtime=2), tars.file(b"d/second", b"2", mtime=2))


def chain(home: Path, id: str) -> list[str]:
    """Return the directories of the layers below a layer, as ``ID/NAME``."""
    links = (home / id / "lower").read_text().split(":")
    return [os.readlink(home / link).removeprefix("../") for link in links]


def write(name: str, text: str = "written"):  # type: ignore[no-untyped-def]
    return lambda root: (root / name).write_text(text)


def names(driver: ErofsDriver, id: str, directory: str = "") -> list[str]:
    with mounted(driver, id) as root:
        return sorted(os.listdir(os.path.join(root, directory)))


# --- the chain ------------------------------------------------------------------------------------


def test_a_layer_that_nobody_wrote_to_is_its_image_to_a_child(
    tmp_path: Path, stored: TakeUpErofs
) -> None:
    driver = stored()
    apply(driver, "a", "", FIRST)
    apply(driver, "b", "a", SECOND)
    driver.create("c", "b", "", {})
    assert chain(tmp_path, "c") == ["b/applied", "a/applied"]
    assert names(driver, "c", "d") == ["first", "second"]


def test_a_layer_that_was_written_to_is_both_to_a_child(
    tmp_path: Path, stored: TakeUpErofs
) -> None:
    driver = stored()
    apply(driver, "a", "", FIRST)
    with mounted(driver, "a") as root:
        write("d/more")(Path(root))
    apply(driver, "b", "a", SECOND)
    driver.create("c", "b", "", {})
    assert chain(tmp_path, "c") == ["b/applied", "a/diff", "a/applied"]
    assert names(driver, "c", "d") == ["first", "more", "second"]


def test_a_layer_that_nothing_was_applied_to_is_its_upper_directory(
    tmp_path: Path, stored: TakeUpErofs
) -> None:
    driver = stored()
    layer(driver, "a", "", write("a"))
    layer(driver, "b", "a", write("b"))
    apply(driver, "c", "b", FIRST)
    driver.create("d", "c", "", {})
    assert chain(tmp_path, "d") == ["c/applied", "b/diff", "a/diff"]
    assert names(driver, "d") == ["a", "b", "d"]


def test_a_parent_that_is_mounted_may_still_be_written_to(
    tmp_path: Path, stored: TakeUpErofs
) -> None:
    driver = stored()
    apply(driver, "a", "", FIRST)
    with mounted(driver, "a"):
        driver.create("b", "a", "", {})
    assert chain(tmp_path, "b") == ["a/diff", "a/applied"]


def test_an_opaque_root_ends_the_chain(tmp_path: Path, stored: TakeUpErofs) -> None:
    driver = stored()
    apply(driver, "a", "", FIRST)
    apply(driver, "b", "a", tars.tar(tars.whiteout(b".wh..wh..opq"), tars.file(b"new")))
    apply(driver, "c", "b", SECOND)
    driver.create("d", "c", "", {})
    assert names(driver, "b") == ["new"]
    assert chain(tmp_path, "d") == ["c/applied", "b/applied"]
    assert names(driver, "d") == ["d", "new"]
    assert names(driver, "d", "d") == ["second"]


def test_a_first_layer_is_mounted_once_something_was_applied(
    tmp_path: Path, stored: TakeUpErofs
) -> None:
    driver = stored()
    apply(driver, "a", "", FIRST)
    assert driver.get("a", "") == str(tmp_path / "a" / "merged")
    write("more")(tmp_path / "a" / "merged")
    driver.put("a")
    assert names(driver, "a") == ["d", "more"]
    assert os.listdir(tmp_path / "a" / "diff") == ["more"]
    assert stored()._layers.parent_of("a") == ""


def test_a_parent_is_mounted_without_an_upper_directory(stored: TakeUpErofs) -> None:
    driver = stored()
    apply(driver, "a", "", FIRST)
    driver.create("b", "a", "", {})
    with mounted(driver, "a") as root:
        assert Path(root, "d/first").read_text() == "1"
        with pytest.raises(OSError, match="Read-only file system"):
            Path(root, "new").touch()


def test_the_upper_directory_has_the_metadata_of_the_images_root(
    tmp_path: Path, stored: TakeUpErofs
) -> None:
    driver = stored()
    apply(driver, "a", "", tars.tar(tars.directory(b"./", mode=0o1751, uid=7, gid=8, mtime=9)))
    driver.create("b", "a", "", {})
    for root in (tmp_path / "a" / "diff", tmp_path / "b" / "diff"):
        found = root.stat()
        facts = (found.st_mode & 0o7777, found.st_uid, found.st_gid, found.st_mtime)
        assert facts == (0o1751, 7, 8, 9)


def test_a_layer_with_499_below_it_is_unpacked_into_its_upper_directory(
    tmp_path: Path, stored: TakeUpErofs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (erofs_layers, overlay_layers, overlay_mounts):
        monkeypatch.setattr(module, "MAX_LOWERS", 3)
    driver = stored()
    apply(driver, "a", "", FIRST)
    apply(driver, "b", "a", SECOND)
    apply(driver, "c", "b", tars.tar(tars.file(b"c")))
    assert os.listdir(tmp_path / "c" / "diff") == ["c"]
    assert not (tmp_path / "c" / "applied").exists()
    assert names(driver, "c") == ["c", "d"]
    driver.create("d", "c", "", {})
    assert names(driver, "c") == names(driver, "d") == ["c", "d"]


# --- what a layer shows ---------------------------------------------------------------------------


def test_layers_show_what_overlay2_shows(stored: TakeUpErofs, take_up: TakeUp) -> None:
    ours, theirs = stored(), take_up()
    for driver in (ours, theirs):
        apply(driver, "a", "", TAR_A)
        apply(driver, "b", "a", TAR_B)
        driver.create("c", "b", "", {})
    for id in ("a", "b", "c"):
        assert recorded(ours, id) == recorded(theirs, id)


def test_an_image_that_cannot_hold_a_layer_is_replaced_by_its_tree(
    tmp_path: Path, stored: TakeUpErofs, take_up: TakeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = stored(), take_up()
    apply(ours, "a", "", TAR_A)
    monkeypatch.setattr(bounds, "MOST", 1)
    apply(ours, "b", "a", TAR_B)
    for id, parent, tar in (("a", "", TAR_A), ("b", "a", TAR_B)):
        apply(theirs, id, parent, tar)
    assert sorted(os.listdir(tmp_path / "b" / "applied")) == ["etc", "gone", "old", "passwd"]
    for driver in (ours, theirs):
        driver.create("c", "b", "", {})
    assert chain(tmp_path, "c") == ["b/applied", "a/applied"]
    for id in ("b", "c"):
        assert recorded(ours, id) == recorded(theirs, id)
    assert read_diff(ours, "b", "a") == TAR_B
    assert list(ours.changes("b", "a")) == list(theirs.changes("b", "a"))
    assert ours.diff_size("b", "a") == theirs.diff_size("b", "a")


# --- numbers --------------------------------------------------------------------------------------


def test_a_container_has_one_device_number(stored: TakeUpErofs) -> None:
    driver = stored()
    apply(driver, "a", "", TAR_A)
    apply(driver, "b", "a", TAR_B)
    driver.create("c", "b", "", {})
    with mounted(driver, "c") as root:
        write("new")(Path(root))
        paths = [Path(root), *Path(root).rglob("*")]
        assert len({path.lstat().st_dev for path in paths}) == 1
        listed = subprocess.run(
            ["find", root, "-xdev"], check=True, capture_output=True, text=True
        ).stdout.splitlines()
        assert sorted(listed) == sorted(map(str, paths))
        numbers = {path: path.lstat().st_ino for path in paths}
        names = {path for path in paths if path.name not in ("passwd", "again", "tool")}
        assert len({numbers[path] for path in names}) == len(names)


def test_an_inode_keeps_its_number_when_it_is_copied_up(stored: TakeUpErofs) -> None:
    driver = stored()
    apply(driver, "a", "", TAR_A)
    driver.create("b", "a", "", {})
    with mounted(driver, "b") as root:
        file, directory = Path(root, "noted"), Path(root, "etc")
        before = [(one.stat().st_dev, one.stat().st_ino) for one in (file, directory)]
        with open(file, "a") as opened:
            opened.write("more")
        (directory / "new").touch()
        assert [(one.stat().st_dev, one.stat().st_ino) for one in (file, directory)] == before
    with mounted(driver, "b") as root:
        again = [Path(root, name).stat().st_ino for name in ("noted", "etc")]
    assert again == [number for _, number in before]


def test_a_kernel_without_xino_is_told_of_and_layers_are_mounted_without(
    tmp_path: Path,
    stored: TakeUpErofs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = dataclasses.replace(probe_erofs(str(tmp_path)), has_xino=False)
    monkeypatch.setattr(erofs_driver, "probe_erofs", lambda *_: found)
    driver = stored()
    assert len([text for text in caplog.messages if "xino=on" in text]) == 1
    assert dict(driver.status())["Inode Numbers"] == "changed by copy-up (no xino)"
    apply(driver, "a", "", TAR_A)
    with mounted(driver, "a") as root:
        (options,) = [one.options for one in mount_points() if one.point == os.fsencode(root)]
        assert b"xino=on" not in options
        assert Path(root, "noted").read_text() == "noted"


def test_hard_links_are_one_inode(stored: TakeUpErofs) -> None:
    driver = stored()
    apply(driver, "a", "", TAR_A)
    driver.create("b", "a", "", {})
    with mounted(driver, "b") as root:
        one, other = Path(root, "again").stat(), Path(root, "bin/tool").stat()
        assert (one.st_ino, one.st_dev, one.st_nlink) == (other.st_ino, other.st_dev, 2)


# --- usage ----------------------------------------------------------------------------------------


def test_usage_counts_the_file_the_tree_and_the_upper_directory(
    stored: TakeUpErofs, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = stored()
    count = driver._layers.usage
    tar = tars.tar(*(tars.file(b"%d" % number, b"x" * 8192) for number in range(4)))
    apply(driver, "image", "", tar)
    assert 4 * 8192 < count("image").size < 2 * len(tar)
    assert count("image").inodes == 2
    monkeypatch.setattr(bounds, "MOST", 1)
    apply(driver, "tree", "", tar)
    assert 2 * 4 * 8192 < count("tree").size < 3 * len(tar)
    assert count("tree").inodes == 7
    before = count("tree")
    with mounted(driver, "tree") as root:
        Path(root, "more").write_bytes(b"x" * 8192)
    assert count("tree").size == before.size + 8192
    assert count("tree").inodes == before.inodes + 1
