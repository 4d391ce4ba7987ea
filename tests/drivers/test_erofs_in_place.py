"""Layers of erofs whose tars stay in a store: the index is the home's own, the data are the store's."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.driver import mounted
from graphdriver.drivers.erofs import in_place as in_place_parts
from graphdriver.drivers.erofs.driver import ErofsDriver
from graphdriver.drivers.erofs.layout import IMAGE, PLACE, RECORD
from graphdriver.errors import GraphDriverError, LayerDamagedError, UnsupportedError
from graphdriver.in_place import SharedImage
from graphdriver.layer.erofs.record import Kind, parse
from tests.drivers.conftest import TakeUpErofs
from tests.drivers.layers import apply, read_diff, taking_up
from tests.support.two_layers import TAR_A, TAR_B
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

LARGE = tars.tar(tars.directory(b"./", 0o755), tars.file(b"large", b"x" * (3 << 20)))
OFFSET = 4096
"""Where the tar begins in an image."""


class Store:
    """A store with images that another home made."""

    def __init__(self, path: Path, driver: ErofsDriver) -> None:
        self.path = path
        self._driver = driver

    def image(self, id: str, parent: str, tar: bytes) -> SharedImage:
        """Return a new image in the store."""
        apply(self._driver, id, parent, tar)
        found = self._driver.stored_image(str(self.path / "home"), id)
        assert found
        with open(found.fd, "rb") as file:
            (self.path / id).write_bytes(file.read())
        return SharedImage(str(self.path), id, found.record)


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("store")
    (path / "home").mkdir()
    with taking_up(ErofsDriver, path / "home") as take_up:
        yield Store(path, take_up())


def in_place(driver: ErofsDriver, id: str, parent: str, image: SharedImage) -> None:
    driver.create(id, parent, "", {})
    driver.apply_in_place(id, parent, image)


def forget(driver: ErofsDriver) -> None:
    """Unmount what nobody uses."""
    driver._layers._images.unmount_unused(driver._layers._store.layers())


def shown(driver: ErofsDriver, id: str, name: str) -> bytes:
    with mounted(driver, id) as root:
        return Path(root, name).read_bytes()


def test_a_layer_shows_what_it_would_if_its_tar_were_here(
    store: Store, stored: TakeUpErofs, tmp_path: Path
) -> None:
    driver = stored()
    for id, parent, tar in (("a", "", TAR_A), ("b", "a", TAR_B)):
        in_place(driver, f"{id}1", f"{parent}1" if parent else "", store.image(id, parent, tar))
        apply(driver, f"{id}2", f"{parent}2" if parent else "", tar)
    assert read_diff(driver, "b1", "a1") == read_diff(driver, "b2", "a2") == TAR_B
    assert list(driver.changes("b1", "a1")) == list(driver.changes("b2", "a2"))
    assert driver.diff_size("b1", "a1") == driver.diff_size("b2", "a2")
    assert shown(driver, "b1", "noted") == shown(driver, "b2", "noted")
    assert driver.get_metadata("b1")["TarFile"] == str(store.path / "b")
    assert dict(driver.status())["Layers in Place"] == f"2 in {store.path}"


def test_the_data_are_in_the_store_alone(store: Store, stored: TakeUpErofs, tmp_path: Path) -> None:
    driver = stored()
    in_place(driver, "a", "", store.image("a", "", LARGE))
    assert (tmp_path / "a" / IMAGE).stat().st_size < 1 << 20
    assert shown(driver, "a", "large") == b"x" * (3 << 20)


def test_what_the_kernel_parses_is_never_the_stores(store: Store, stored: TakeUpErofs) -> None:
    driver = stored()
    image = store.image("a", "", TAR_A)
    path = store.path / "a"
    content = path.read_bytes()
    end = OFFSET + len(TAR_A)
    path.write_bytes(b"\0" * OFFSET + content[OFFSET:end] + b"\xff" * (len(content) - end))
    in_place(driver, "a", "", image)
    assert shown(driver, "a", "noted") == b"noted"


def test_the_next_process_mounts_it_again(store: Store, stored: TakeUpErofs) -> None:
    driver = stored()
    in_place(driver, "a", "", store.image("a", "", TAR_A))
    forget(driver)
    assert shown(stored(), "a", "noted") == b"noted"


def test_without_the_store_its_layers_say_so_and_others_go_on(
    store: Store, stored: TakeUpErofs, tmp_path: Path
) -> None:
    driver = stored()
    in_place(driver, "a", "", store.image("a", "", TAR_A))
    apply(driver, "own", "", TAR_A)
    forget(driver)
    away = store.path.rename(tmp_path.parent / "away")
    again = stored()
    with pytest.raises(LayerDamagedError, match=f"in the store {store.path}.*mount the store"):
        again.get("a", "")
    assert {one.code for one in ErofsDriver.checks_of(str(tmp_path)).check()} == {"not-in-store"}
    assert shown(again, "own", "noted") == b"noted"
    away.rename(store.path)
    assert shown(again, "a", "noted") == b"noted"


@contextlib.contextmanager
def on_fuse(path: Path, mount: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Mount a copy of a directory by a program, which can die."""
    beside = path.with_name(f"{path.name}-fuse")
    for name in ("upper", "work"):
        (beside / name).mkdir(parents=True, exist_ok=True)
    mount.mkdir()
    options = f"lowerdir={path},upperdir={beside}/upper,workdir={beside}/work"
    program = subprocess.Popen(["fuse-overlayfs", "-f", "-o", options, str(mount)])
    try:
        wait_until(lambda: os.path.ismount(mount))
        yield program
    finally:
        program.kill()
        program.wait()
        subprocess.run(["umount", "--lazy", str(mount)], check=True)
        mount.rmdir()


def test_a_store_that_dies_is_an_error_of_reads_and_of_nothing_else(
    store: Store, stored: TakeUpErofs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    driver = stored()
    size = 64 << 20
    tar = tars.tar(tars.directory(b"./", 0o755), tars.file(b"large", b"x" * size))
    image = store.image("a", "", tar)
    mount = tmp_path_factory.mktemp("mounted") / "store"
    with on_fuse(store.path, mount) as program:
        in_place(driver, "a", "", dataclasses.replace(image, directory=str(mount)))
        apply(driver, "own", "", TAR_A)
        driver.create("container", "a", "", {})
        with mounted(driver, "container") as root, open(Path(root, "large"), "rb") as large:
            assert large.read(10) == b"x" * 10
            program.kill()
            program.wait()
            large.seek(size - 10)
            with pytest.raises(OSError, match="Input/output error") as raised:
                large.read()
            assert raised.value.errno == errno.EIO
            assert shown(driver, "own", "noted") == b"noted"
            Path(root, "written").write_text("a container can still write")
        forget(driver)
        with pytest.raises(LayerDamagedError, match=f"in the store {mount}.*mount the store"):
            driver.get("a", "")
    with on_fuse(store.path, mount):
        assert shown(driver, "a", "large") == b"x" * size


def cut(path: Path) -> None:
    os.truncate(path, OFFSET + 100)


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [cut, linked, fifo])
def test_an_image_that_changed_in_the_store_is_not_mounted(
    damage: Callable[[Path], None], store: Store, stored: TakeUpErofs
) -> None:
    driver = stored()
    in_place(driver, "a", "", store.image("a", "", TAR_A))
    forget(driver)
    damage(store.path / "a")
    with pytest.raises(LayerDamagedError, match="mount the store"):
        driver.get("a", "")


@pytest.mark.parametrize("damage", [cut, linked, fifo])
def test_an_image_that_is_no_good_is_not_read_in_place(
    damage: Callable[[Path], None], store: Store, stored: TakeUpErofs
) -> None:
    driver = stored()
    image = store.image("a", "", TAR_A)
    damage(store.path / "a")
    with pytest.raises((GraphDriverError, OSError)):
        in_place(driver, "a", "", image)
    driver.remove("a")
    assert list(driver.tars_in_place()) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"tar_offset": 0}, "a is no image that holds its tar"),
        ({"tar_offset": 512}, "a is no image that holds its tar"),
        ({"kind": Kind.TREE}, "a is no image that holds its tar"),
        (None, "the record of a is damaged"),
    ],
)
def test_a_record_whose_tar_is_not_behind_the_head_is_refused(
    change: dict[str, Any] | None, problem: str, store: Store, stored: TakeUpErofs
) -> None:
    driver = stored()
    image = store.image("a", "", TAR_A)
    text = dataclasses.replace(parse(image.record), **change).text() if change else "{}"
    forged = dataclasses.replace(image, record=text)
    with pytest.raises(UnsupportedError, match=problem):
        in_place(driver, "a", "", forged)
    driver.remove("a")
    apply(driver, "b", "", TAR_A)
    with pytest.raises(UnsupportedError, match=problem):
        driver.leave_in_place("b", forged)
    assert read_diff(driver, "b") == TAR_A


def test_a_wrong_tar_is_used_no_more_and_its_layer_can_be_removed(
    store: Store, stored: TakeUpErofs, tmp_path: Path
) -> None:
    driver = stored()
    in_place(driver, "a", "", store.image("a", "", TAR_A))
    driver.create("container", "a", "", {})
    driver.judge_tar("a", "it has another SHA-256")
    for id in ("a", "container"):
        with pytest.raises(LayerDamagedError, match=r"layer a .*wrong: it has another SHA-256"):
            driver.get(id, "")
    assert [one.wrong for one in stored().tars_in_place()] == ["it has another SHA-256"]
    (damage,) = ErofsDriver.checks_of(str(tmp_path)).check()
    assert (damage.code, damage.layer) == ("wrong-in-store", "a")
    for id in ("container", "a"):
        driver.remove(id)


def test_a_proof_is_remembered(store: Store, stored: TakeUpErofs) -> None:
    driver = stored()
    in_place(driver, "a", "", store.image("a", "", TAR_A))
    assert [one.is_proved for one in driver.tars_in_place()] == [False]
    driver.judge_tar("a", "")
    assert [one.is_proved for one in stored().tars_in_place()] == [True]
    driver.judge_tar("gone", "")


def test_a_layer_may_be_removed_while_its_tar_is_judged(
    store: Store, stored: TakeUpErofs, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = stored()
    in_place(driver, "a", "", store.image("a", "", TAR_A))
    place = driver._layers._layout.place("a")
    driver.remove("a")
    monkeypatch.setattr(driver._layers._layout, "place", lambda _: place)
    driver.judge_tar("a", "")
    assert list(driver.tars_in_place()) == []


# --- a tar that was stored here, and is left in the store ------------------------------------------


def test_a_stored_tar_is_given_up_for_the_stores(
    store: Store, stored: TakeUpErofs, tmp_path: Path
) -> None:
    driver = stored()
    apply(driver, "a", "", LARGE)
    apply(driver, "b", "a", tars.tar(tars.file(b"more")))
    with mounted(driver, "b") as root:
        driver.leave_in_place("a", store.image("a", "", LARGE))
        assert Path(root, "large").read_bytes() == b"x" * (3 << 20)
    forget(driver)
    assert (tmp_path / "a" / IMAGE).stat().st_size < 1 << 20
    assert shown(driver, "b", "large") == b"x" * (3 << 20)
    assert read_diff(driver, "a") == LARGE
    assert [(one.id, one.is_proved) for one in driver.tars_in_place()] == [("a", True)]


def test_another_tar_is_refused(store: Store, stored: TakeUpErofs) -> None:
    driver = stored()
    apply(driver, "a", "", LARGE)
    with pytest.raises(UnsupportedError, match="another tar"):
        driver.leave_in_place("a", store.image("a", "", TAR_A))
    assert read_diff(driver, "a") == LARGE


@pytest.mark.parametrize("step", ["index", "place", "rename"])
def test_a_kill_while_a_tar_is_given_up_leaves_one_or_the_other(
    step: str, store: Store, stored: TakeUpErofs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    driver = stored()
    apply(driver, "a", "", LARGE)
    image = store.image("a", "", LARGE)
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(os, "unlink", lambda *_, **__: None)  # a kill cleans nothing up
        if step == "index":
            patched.setattr(in_place_parts, "_write_index", killed)
        elif step == "place":
            patched.setattr(driver._layers._layout, "write_place", killed)
        else:
            patched.setattr(os, "fsync", _killed_at_directory(killed))
        driver.leave_in_place("a", image)
    again = stored()
    forget(again)
    assert shown(again, "a", "large") == b"x" * (3 << 20)
    assert list(ErofsDriver.checks_of(str(tmp_path)).check()) == []
    again.leave_in_place("a", image)
    forget(again)
    assert shown(again, "a", "large") == b"x" * (3 << 20)
    assert (tmp_path / "a" / IMAGE).stat().st_size < 1 << 20


def _killed_at_directory(killed: Callable[[], None]) -> Callable[[int], None]:
    sync = os.fsync

    def fsync(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            killed()
        sync(fd)

    return fsync


@pytest.mark.parametrize("text", [None, "", "{}", '{"directory": "relative"}', "[1]"])
def test_an_index_whose_place_was_lost_is_damage(
    text: str | None, store: Store, stored: TakeUpErofs, tmp_path: Path
) -> None:
    driver = stored()
    in_place(driver, "a", "", store.image("a", "", TAR_A))
    forget(driver)
    place = tmp_path / "a" / PLACE
    if text is None:
        place.unlink()
    else:
        place.write_text(text)
    with pytest.raises(LayerDamagedError, match="record of where its tar is was lost"):
        driver.get("a", "")
    assert [one.code for one in ErofsDriver.checks_of(str(tmp_path)).check()] == ["lost-place"]
    assert list(stored().tars_in_place()) == []
    driver.remove("a")


def test_a_record_of_an_index_alone_has_the_tar_where_the_store_has_it(
    store: Store, stored: TakeUpErofs, tmp_path: Path
) -> None:
    driver = stored()
    image = store.image("a", "", TAR_A)
    in_place(driver, "a", "", image)
    assert (tmp_path / "a" / RECORD).read_text() == image.record
    shutil.copy(store.path / "a", tmp_path / "a" / IMAGE)  # as an administrator may bring it back
    (tmp_path / "a" / PLACE).unlink()
    forget(driver)
    assert shown(driver, "a", "noted") == b"noted"
