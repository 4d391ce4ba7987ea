"""Where overlay2 can live, how deep it goes, and what it says of itself."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from graphdriver.drivers.overlay.kernel_mounter import KernelMounter
from graphdriver.drivers.overlay.mounter import MAX_LOWERS, Overlay
from graphdriver.drivers.overlay.mounts import LayerMounts
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.errors import (
    GraphDriverError,
    InUseError,
    LayerDamagedError,
    LayerNotFoundError,
    UnsupportedError,
)
from graphdriver.linux.mountinfo import mount_points
from tests.drivers.conftest import TakeUp
from tests.drivers.layers import recorded

NAMES = {
    "colons": "org/name:tag",
    "commas": "a,b,upperdir=c",
    "backslashes": "a\\b\\:c",
    "quotes": "a\"b'c",
    "blanks": " a b\tc\n",
    "letters": "ä€",
    "longer than a setting may be": "/".join(["x" * 100] * 3),
}


def chain(driver: Overlay2Driver, length: int) -> None:
    """Make layers ``0`` upon nothing, ``1`` upon that, and so on."""
    driver.create("0", "", "", {})
    Path(driver.get("0", ""), "file").write_text("from the first")
    for number in range(1, length):
        driver.create(str(number), str(number - 1), "", {})


@pytest.mark.parametrize("interface", ["fsopen", "mount"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_home_may_be_called_anything(
    home: Path, take_up: TakeUp, name: str, interface: str
) -> None:
    place = home / name
    place.mkdir(parents=True)
    driver = take_up(home=place)
    driver._layers._mounts._mounter = KernelMounter(str(place), interface)
    chain(driver, 3)
    for id in ("1", "2"):  # without an upper directory, and with one
        root = Path(driver.get(id, ""))
        assert root == place / id / "merged"
        assert (root / "file").read_text() == "from the first"
    (root / "new").write_text("new")
    assert (place / "2/diff/new").read_text() == "new"
    assert {one.point for one in mount_points() if os.fsencode(place) in one.point} == {
        os.fsencode(place / id / "merged") for id in ("1", "2")
    }
    driver.cleanup()
    assert os.getcwd() != str(place)


def test_the_mount_table_names_whole_paths_where_it_can(home: Path, take_up: TakeUp) -> None:
    driver = take_up()
    chain(driver, 2)
    driver.get("1", "")
    (mount,) = (one for one in mount_points() if os.fsencode(home) in one.point)
    assert b"upperdir=" + os.fsencode(home) + b"/1/diff" in mount.options


def test_as_many_layers_as_the_kernel_takes_stand_on_each_other(
    home: Path, take_up: TakeUp
) -> None:
    driver = take_up()
    chain(driver, MAX_LOWERS + 1)
    top = str(MAX_LOWERS)
    assert sorted(recorded(driver, top)) == [b"file"]
    with pytest.raises(UnsupportedError, match=f"there are {MAX_LOWERS} layers below parent {top}"):
        driver.create("too-deep", top, "", {})
    assert not driver.exists("too-deep")
    assert len(os.listdir(home / "l")) == MAX_LOWERS + 1
    # The kernel's own word, so that the number is not ours alone.
    driver.create("more", str(MAX_LOWERS - 1), "", {})
    lowers = [*driver._layers._layout.lowers("more"), f"l/{(home / 'more/link').read_text()}"]
    (home / "m").mkdir()
    with pytest.raises(GraphDriverError, match="too many lower directories, limit is 500"):
        driver._layers._mounts._mounter.mount(Overlay(lowers, "m"))
    # With mount(2) there is a page for all of them.
    driver._layers._mounts._mounter = KernelMounter(str(home), "mount")
    assert sorted(recorded(driver, "125")) == [b"file"]
    with pytest.raises(UnsupportedError, match=r"500 layers are more than .*mount\(2\) takes"):
        driver.get(top, "")
    assert not (home / top / "merged").exists()


def test_a_layer_on_as_many_as_the_kernel_takes_cannot_be_got_on_a_read_only_filesystem(
    take_up: TakeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = take_up()
    chain(driver, 4)
    monkeypatch.setattr("graphdriver.drivers.overlay.mounts.MAX_LOWERS", 3)
    monkeypatch.setattr(LayerMounts, "_make_merged", lambda *_: False)
    assert driver.get("2", "")
    driver.put("2")
    with pytest.raises(UnsupportedError, match=r"read-only, so the layer is one more .* on 3, and"):
        driver.get("3", "")


# --- what it says of itself -----------------------------------------------------------------------


def test_metadata_names_the_directories_of_a_mount_as_docker_does(
    home: Path, take_up: TakeUp
) -> None:
    driver = take_up()
    chain(driver, 3)
    assert driver.get_metadata("0") == {
        "MergedDir": f"{home}/0/merged",
        "UpperDir": f"{home}/0/diff",
        "WorkDir": f"{home}/0/work",
    }
    assert driver.get_metadata("2") == {
        "LowerDir": f"{home}/1/diff:{home}/0/diff",
        "MergedDir": f"{home}/2/merged",
        "UpperDir": f"{home}/2/diff",
        "WorkDir": f"{home}/2/work",
    }


def test_metadata_names_the_home_as_the_daemon_does(home: Path, take_up: TakeUp) -> None:
    (home / "real").mkdir()
    (home / "link").symlink_to("real")
    driver = take_up(home=home / "link")
    chain(driver, 2)
    assert driver.get_metadata("1")["LowerDir"] == f"{home}/link/0/diff"


def test_status_tells_what_the_layers_are_on(take_up: TakeUp) -> None:
    assert dict(take_up().status()) == {
        "Backing Filesystem": "tmpfs",
        "Supports d_type": "true",
        "Using metacopy": "false",
        "Native Overlay Diff": "true",
        "userxattr": "false",
        "Mount Interface": "fsopen",
        "Kernel": os.uname().release,
    }


def test_a_layer_lies_on_disk_as_docker_lays_it(home: Path, take_up: TakeUp) -> None:
    driver = take_up()
    chain(driver, 3)
    driver.create_read_write("3", "2", "", {})
    names = [(home / id / "link").read_text() for id in "0123"]
    assert all(len(name) == 26 and name.isalnum() and name.upper() == name for name in names)
    assert {name: os.readlink(home / "l" / name) for name in names} == {
        name: f"../{id}/diff" for id, name in enumerate(names)
    }
    assert (home / "2/lower").read_text() == f"l/{names[1]}:l/{names[0]}"
    assert {*os.listdir(home / "0")} == {"diff", "link", "committed"}
    assert {*os.listdir(home / "2")} == {"diff", "link", "lower", "work", "committed"}
    assert {*os.listdir(home / "3")} == {"diff", "link", "lower", "work"}


# --- errors ---------------------------------------------------------------------------------------


def test_a_layer_that_others_stand_on_is_not_removed(take_up: TakeUp) -> None:
    driver = take_up()
    chain(driver, 3)
    for again in (driver, take_up()):
        with pytest.raises(
            InUseError, match="the layer is the parent of layer 1; remove that one first"
        ):
            again.remove("0")
    assert sorted(recorded(again, "2")) == [b"file"]
    for id in ("2", "1", "0"):
        again.remove(id)
        assert not again.exists(id)


def test_no_layer_has_the_name_of_the_directory_of_links(take_up: TakeUp) -> None:
    driver = take_up()
    chain(driver, 2)
    for create in (driver.create, driver.create_read_write):
        with pytest.raises(
            UnsupportedError, match="a directory of its own called l; choose another"
        ):
            create("l", "", "", {})
    with pytest.raises(LayerNotFoundError, match="parent l does not exist"):
        driver.create("a", "l", "", {})
    assert not driver.exists("l")
    for call in (
        lambda: driver.get("l", ""),
        lambda: driver.diff("l", ""),
        lambda: driver.put("l"),
    ):
        with pytest.raises(LayerNotFoundError):
            call()
    driver.remove("l")
    assert sorted(recorded(driver, "1")) == [b"file"]


@pytest.mark.parametrize("name", ["lower", "link"])
@pytest.mark.parametrize("left", [None, "", "\0" * 28, "l/", "../../etc"])
def test_a_layer_that_a_power_cut_left_without_its_files_can_be_removed(
    home: Path, take_up: TakeUp, name: str, left: str | None
) -> None:
    chain(take_up(), 3)
    if left is None:
        (home / "2" / name).unlink()
    else:
        (home / "2" / name).write_text(left)
    driver = take_up()
    driver.remove("2")
    driver.remove("1")
    assert sorted(recorded(driver, "0")) == [b"file"]
    take_up()
    assert len(os.listdir(home / "l")) == 1


def test_the_link_of_a_layer_that_was_removed_without_descriptors_goes_with_the_next(
    home: Path, take_up: TakeUp
) -> None:
    driver = take_up()
    for id in ("a", "b"):
        driver.create(id, "", "", {})
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        driver.remove("a")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not driver.exists("a")
    driver.remove("b")
    assert os.listdir(home / "l") == []


def test_what_stands_on_a_layer_whose_own_below_was_lost_says_so(
    home: Path, take_up: TakeUp
) -> None:
    chain(take_up(), 3)
    (home / "2/lower").write_text("")
    driver = take_up()
    with pytest.raises(LayerDamagedError, match=r"layer 2 is damaged: the list .* was lost"):
        driver.get("2", "")
    with pytest.raises(LayerDamagedError, match=r"layer 2 is damaged: the list .* was lost"):
        driver.create("3", "2", "", {})


@pytest.mark.parametrize("left", [None, "", "\0" * 26, "../../etc", "X"])
def test_nothing_is_made_upon_a_layer_whose_link_was_lost(
    home: Path, take_up: TakeUp, left: str | None
) -> None:
    """A wrong link would show something else in its place."""
    chain(take_up(), 3)
    if left is None:
        (home / "2/link").unlink()
    else:
        (home / "2/link").write_text(left)
    driver = take_up()
    with pytest.raises(
        LayerDamagedError, match=r"layer 2 is damaged: the name of its link was lost"
    ):
        driver.create("3", "2", "", {})
    assert not driver.exists("3")
    assert sorted(recorded(driver, "2")) == [b"file"]


def test_links_that_were_lost_are_made_anew_at_the_next_start(home: Path, take_up: TakeUp) -> None:
    """A home that was copied without its symbolic links, say."""
    driver = take_up()
    chain(driver, 3)
    driver.cleanup()
    for link in (home / "l").iterdir():
        link.unlink()
    with pytest.raises(GraphDriverError):
        driver.get("2", "")
    driver = take_up()
    assert sorted(recorded(driver, "2")) == [b"file"]
    driver.create("3", "2", "", {})
    assert sorted(recorded(driver, "3")) == [b"file"]
