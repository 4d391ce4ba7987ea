"""When images are mounted and unmounted: who uses them, restarts, and mounts that fail."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from graphdriver.abilities import Mount
from graphdriver.conformance.plugin import tars
from graphdriver.driver import mounted
from graphdriver.drivers.erofs import applied, image_mounts
from graphdriver.drivers.erofs.driver import ErofsDriver
from graphdriver.drivers.erofs.mounting import mount_image
from graphdriver.drivers.overlay.mounter import Overlay
from graphdriver.errors import GraphDriverError, LayerDamagedError
from graphdriver.linux import mount as calls
from graphdriver.linux.mountinfo import mount_points
from tests.drivers.conftest import TakeUpErofs
from tests.drivers.layers import apply, read_diff
from tests.support.long import times
from tests.support.mounting import mount as mount_as_containerd
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root


def tar(name: str) -> bytes:
    return tars.tar(tars.directory(b"d", mtime=1), tars.file(b"d/" + name.encode(), name.encode()))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unmount an image as soon as nobody uses it."""
    monkeypatch.setattr(image_mounts, "LINGER", 0)


def is_unmounting(home: Path) -> bool:
    """Tell whether images without users are still mounted."""
    return any(one.name == f"unmounter {home}" for one in threading.enumerate())


def images(home: Path) -> list[str]:
    """Return the layers with images that are mounted, each as often as it is."""
    wait_until(lambda: not is_unmounting(home))
    points = [os.fsdecode(one.point) for one in mount_points() if one.fstype == "erofs"]
    return sorted(
        os.path.basename(os.path.dirname(point)) for point in points if point.startswith(f"{home}/")
    )


@pytest.fixture
def driver(stored: TakeUpErofs) -> ErofsDriver:
    """A driver with two applied layers, and two upon both."""
    driver = stored()
    apply(driver, "a", "", tar("a"))
    apply(driver, "b", "a", tar("b"))
    for id in ("one", "two"):
        driver.create_read_write(id, "b", "", {})
    driver._layers._images.unmount_unused()
    return driver


# --- layers that are mounted ----------------------------------------------------------------------


def test_an_image_is_mounted_once_and_until_its_last_user_is_gone(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    assert images(tmp_path) == []
    driver.get("one", "")
    driver.get("two", "")
    driver.get("a", "")
    assert images(tmp_path) == ["a", "b"]
    driver.put("one")
    assert images(tmp_path) == ["a", "b"]
    driver.put("two")
    assert images(tmp_path) == ["a"]
    driver.put("a")
    assert images(tmp_path) == []


def test_a_second_get_of_a_layer_is_one_user(tmp_path: Path, driver: ErofsDriver) -> None:
    for _ in range(2):
        driver.get("one", "")
    driver.put("one")
    assert images(tmp_path) == ["a", "b"]
    driver.put("one")
    assert images(tmp_path) == []


def test_a_driver_that_was_started_again_finds_images_and_their_users(
    tmp_path: Path, driver: ErofsDriver, stored: TakeUpErofs
) -> None:
    driver.get("one", "")
    again = stored()
    again.get("two", "")
    assert images(tmp_path) == ["a", "b"]
    again.put("two")
    assert images(tmp_path) == ["a", "b"]
    again.put("one")
    assert images(tmp_path) == []


def test_images_that_a_killed_process_left_are_found_or_unmounted(
    tmp_path: Path, driver: ErofsDriver, stored: TakeUpErofs
) -> None:
    driver._layers._images.hold("a reader that is killed", ["a", "b"])
    again = stored()
    with mounted(again, "a"):
        assert images(tmp_path) == ["a", "b"]
    assert images(tmp_path) == ["b"]
    again.get("two", "")
    driver._layers._images.hold("another one", ["a"])
    again._layers.release_leftovers()
    assert images(tmp_path) == ["a", "b"]
    again.put("two")
    assert images(tmp_path) == []


def test_an_image_that_cannot_be_mounted_leaves_nothing_mounted(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    (tmp_path / "a" / "layer.json").unlink()
    with pytest.raises(LayerDamagedError, match="layer a is damaged: the record"):
        driver.get("one", "")
    assert images(tmp_path) == []
    assert not (tmp_path / "one" / "merged").exists()
    driver.put("one")


def test_images_in_use_stay_when_another_mount_fails(
    tmp_path: Path, driver: ErofsDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.get("a", "")

    def refuse(*_: object) -> None:
        raise GraphDriverError("no more")

    monkeypatch.setattr(applied, "mount_image", refuse)
    with pytest.raises(GraphDriverError, match="no more"):
        driver.get("one", "")
    assert images(tmp_path) == ["a"]
    monkeypatch.setattr(applied, "mount_image", mount_image)
    with mounted(driver, "one") as root:
        assert sorted(os.listdir(f"{root}/d")) == ["a", "b"]


def test_a_layer_that_somebody_else_unmounted_uses_no_image(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    calls.unmount(driver.get("one", ""))
    driver.put("one")
    assert images(tmp_path) == []


def test_an_image_that_somebody_else_unmounted_is_mounted_again(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    driver.get("one", "")
    calls.unmount(str(tmp_path / "a" / "applied"))
    with mounted(driver, "two") as root:
        assert sorted(os.listdir(f"{root}/d")) == ["a", "b"]


def test_125_layers(tmp_path: Path, stored: TakeUpErofs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_mounts, "LINGER", 3600)
    driver = stored()
    for number in range(125):
        apply(driver, f"l{number}", f"l{number - 1}" if number else "", tar(f"{number}"))
    driver.create_read_write("top", "l124", "", {})
    with mounted(driver, "top") as root:
        assert len(os.listdir(f"{root}/d")) == 125
        assert Path(root, "d/77").read_text() == "77"
    driver._layers._images.unmount_unused()
    assert images(tmp_path) == []
    with mounted(driver, "top") as root:
        assert len(os.listdir(f"{root}/d")) == 125


def test_an_image_stays_for_the_next_user_that_comes_soon(
    tmp_path: Path, driver: ErofsDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_mounts, "LINGER", 3600)
    with mounted(driver, "one"):
        pass
    numbers = [(tmp_path / id / "applied").stat().st_dev for id in "ab"]
    with mounted(driver, "two"):
        assert [(tmp_path / id / "applied").stat().st_dev for id in "ab"] == numbers
    assert is_unmounting(tmp_path)
    driver.cleanup()
    assert images(tmp_path) == []


def test_at_the_end_images_that_nobody_uses_are_unmounted_and_no_thread_stays(
    tmp_path: Path, driver: ErofsDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_mounts, "LINGER", 3600)
    for id in ("one", "a"):
        driver.get(id, "")
    driver.put("one")
    assert is_unmounting(tmp_path)
    driver._layers.end_background_work()
    assert not is_unmounting(tmp_path)
    assert images(tmp_path) == ["a"]


def test_at_its_first_init_a_new_daemon_finds_the_images_of_streams_that_go_on(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    stream = driver.diff("two", "a")
    driver.init(str(tmp_path), (), (), ())
    with mounted(driver, "one"):
        pass
    assert images(tmp_path) == ["a", "b"]
    stream.close()
    assert images(tmp_path) == []


def test_whoever_gets_a_layer_sees_all_images_while_others_come_and_go(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    faults: list[str] = []

    def use(id: str) -> None:
        for _ in range(times(gate=30, long=2000)):
            with mounted(driver, id) as root:
                if (found := sorted(os.listdir(f"{root}/d"))) != ["a", "b"]:
                    faults.append(f"{id} shows {found}")

    def read() -> None:
        for _ in range(times(gate=30, long=2000)):
            if len(list(driver.changes("b", "a"))) != 2:
                faults.append("a diff misses something")

    threads = [threading.Thread(target=use, args=(id,)) for id in ("one", "two")]
    threads += [threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert images(tmp_path) == []


# --- readers --------------------------------------------------------------------------------------


def test_readers_mount_what_they_read_and_nothing_stays(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    with mounted(driver, "one") as root:
        Path(root, "d/a").write_text("more")
    assert [change.path for change in driver.changes("b", "a")] == ["/d", "/d/b"]
    assert [change.path for change in driver.changes("one", "b")] == ["/d", "/d/a"]
    assert driver.diff_size("one", "b") == 4
    assert read_diff(driver, "b", "a") == tar("b")
    assert read_diff(driver, "one", "b")
    assert read_diff(driver, "b", "")
    assert images(tmp_path) == []


def test_a_diff_that_is_not_read_to_its_end_lets_its_images_go(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    stream = driver.diff("one", "a")
    stream.read(1)
    assert images(tmp_path) == ["a", "b"]
    stream.close()
    assert images(tmp_path) == []


# --- the end --------------------------------------------------------------------------------------


def test_cleanup_unmounts_images_in_use(tmp_path: Path, driver: ErofsDriver) -> None:
    driver.get("one", "")
    with open(tmp_path / "a" / "applied" / "d" / "a", "rb") as held:
        driver.cleanup()
        assert images(tmp_path) == []
        assert held.read() == b"a"


def test_a_layer_with_an_image_in_use_is_removed(tmp_path: Path, driver: ErofsDriver) -> None:
    for id in ("one", "two"):
        driver.remove(id)
    driver.get("b", "")
    with open(tmp_path / "b" / "applied" / "d" / "b", "rb") as held:
        driver.remove("b")
        driver._layers._store.settle()
        assert held.read() == b"b"
    assert images(tmp_path) == []
    assert not any((tmp_path / ".trash").iterdir())
    driver.remove("a")


def test_an_open_file_of_an_image_keeps_no_mount_point_busy(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    driver.get("a", "")
    with open(tmp_path / "a" / "applied" / "d" / "a", "rb") as held:
        driver.put("a")
        assert images(tmp_path) == []
        with mounted(driver, "a") as root:
            assert Path(root, "d/a").read_bytes() == held.read() == b"a"


def test_cleanup_leaves_the_images_of_a_layer_that_is_just_being_mounted(
    tmp_path: Path, driver: ErofsDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its images the layer would lack their files, and there would be no error."""
    mounter = driver._layers.setup.mounter
    mount = mounter.mount

    def cleaned_up_before(overlay: Overlay) -> None:
        driver._layers.cleanup()
        mount(overlay)

    monkeypatch.setattr(mounter, "mount", cleaned_up_before)
    root = driver.get("one", "")
    assert sorted(os.listdir(f"{root}/d")) == ["a", "b"]
    driver.put("one")
    assert images(tmp_path) == []


# --- a later mount on the home --------------------------------------------------------------------


@contextlib.contextmanager
def bound_on_itself(directory: Path) -> Iterator[None]:
    """Do what dockerd does with its data-root when it starts."""
    calls.mount(str(directory), str(directory), "", calls.MS_BIND, "")
    calls.mount("", str(directory), "", calls.MS_PRIVATE, "")
    try:
        yield
    finally:
        calls.unmount(str(directory), calls.MNT_DETACH)


def test_images_that_a_daemons_bind_mount_hides_are_mounted_again(
    tmp_path: Path, driver: ErofsDriver
) -> None:
    driver.get("one", "")
    with bound_on_itself(tmp_path):
        with mounted(driver, "two") as root:
            assert sorted(os.listdir(f"{root}/d")) == ["a", "b"]
        # The container that was started before has its own mount, and goes on.
        driver.get("one", "")
        driver.put("one")
    driver.get("one", "")
    driver.cleanup()
    assert images(tmp_path) == []


# --- mounts that containerd makes -----------------------------------------------------------------


@contextlib.contextmanager
def mounted_by_containerd(mounts: Sequence[Mount], place: Path) -> Iterator[Path]:
    (one,) = mounts
    place.mkdir(exist_ok=True)
    mount_as_containerd(one.type, one.source, str(place), ",".join(one.options))
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("id", ["one", "b"])
def test_named_mounts_work_as_long_as_they_are_kept(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, driver: ErofsDriver, id: str
) -> None:
    place = tmp_path_factory.mktemp("mounted")
    driver._layers.keep_mounts(id, "7")
    assert images(tmp_path) == []
    mounts = driver.mounts(id, read_only=id == "b")
    assert images(tmp_path) == ["a", "b"]
    with mounted(driver, "two"):
        pass
    with mounted_by_containerd(mounts, place) as root:
        assert sorted(os.listdir(root / "d")) == ["a", "b"]
    driver._layers.release_mounts("7")
    assert images(tmp_path) == []


def test_named_mounts_leave_out_options_that_buildkit_does_not_know(driver: ErofsDriver) -> None:
    (mount,) = driver.mounts("one", read_only=False)
    assert not [option for option in mount.options if option.startswith("xino")]
    lowers = mount.options[-1].removeprefix("lowerdir=").split(":")
    assert [lower.split("/")[-2:] for lower in lowers] == [["b", "applied"], ["a", "applied"]]


def test_named_mounts_are_made_again_after_a_reboot(
    tmp_path: Path, driver: ErofsDriver, stored: TakeUpErofs
) -> None:
    driver._layers.keep_mounts("one", "7")
    mounts = driver.mounts("one", read_only=False)
    driver.cleanup()  # like a reboot it ends all mounts
    assert images(tmp_path) == []
    again = stored()
    again._layers.keep_mounts("one", "7")
    assert images(tmp_path) == []
    assert again.mounts("one", read_only=False) == mounts
    assert images(tmp_path) == ["a", "b"]


def test_what_was_kept_before_a_restart_stays_mounted(
    tmp_path: Path, driver: ErofsDriver, stored: TakeUpErofs
) -> None:
    driver._layers.keep_mounts("one", "7")
    driver.mounts("one", read_only=False)
    again = stored()
    again._layers.keep_mounts("one", "7")
    with mounted(again, "two"):
        pass
    assert images(tmp_path) == ["a", "b"]
    again._layers.release_mounts("7")
    assert images(tmp_path) == []
