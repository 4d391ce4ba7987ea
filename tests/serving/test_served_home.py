"""A driver at work in a home: what is the same for Docker and containerd."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from graphdriver.errors import (
    InUseError,
    LayerExistsError,
    LayerUnfinishedError,
    NotReadyError,
    UnsupportedError,
)
from graphdriver.linux.filesystem import syncfs
from graphdriver.serving.served_home import ServedHome
from tests.support.tarbox import TarBox

SYNCFS = "graphdriver.serving.home.syncfs"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def served(path: Path) -> Iterator[ServedHome]:
    """A driver in a home, with a layer ``a`` that was just created."""
    served = ServedHome(TarBox(), "docker")
    served.claim(str(path))
    served.init_driver()
    create(served, "a")
    yield served
    served.close()


def create(served: ServedHome, id: str, parent: str = "") -> None:
    with served.creating(id, parent):
        served.driver.create(id, parent, "", {})


def marks(path: Path) -> list[str]:
    return os.listdir(path / ".graphdriver/applying")


# --- the home -------------------------------------------------------------------------------------


def test_a_home_is_claimed_once_and_known_from_then_on(path: Path) -> None:
    for is_known in (False, True):
        served = ServedHome(TarBox(), "docker")
        assert served.claim(str(path)) is is_known
        served.close()
    with pytest.raises(UnsupportedError, match=r"for docker, and this is .* for containerd"):
        ServedHome(TarBox(), "containerd").claim(str(path))


def test_the_frameworks_options_do_not_reach_the_driver(path: Path) -> None:
    box = TarBox()
    served = ServedHome(box, "docker", ["sync=none", "x=1"])
    served.claim(str(path), ["y=2", "adopt=yes"])
    served.init_driver()
    assert box.inits == [(str(path), ["x=1", "y=2"], [])]
    assert not served.syncs
    served.close()


def test_a_wrong_option_changes_nothing(served: ServedHome, path: Path) -> None:
    with pytest.raises(UnsupportedError, match="sync is 'layer'"):
        served.claim(str(path), ["sync=often"])
    assert served.is_current()


def test_a_home_is_free_again_after_an_init_that_failed(path: Path) -> None:
    class Refuses(TarBox):
        def init(self, *_: object) -> None:
            raise UnsupportedError("no")

    served = ServedHome(Refuses(), "docker")
    served.claim(str(path))
    with pytest.raises(UnsupportedError, match="no"):
        served.init_driver()
    assert not served.is_current()
    other = ServedHome(Refuses(), "docker")
    other.claim(str(path))
    other.close()


def test_a_call_needs_the_directory_that_was_claimed(served: ServedHome, path: Path) -> None:
    with served:
        pass
    path.rename(path.with_name("aside"))
    with pytest.raises(NotReadyError, match="is not the directory that was served"), served:
        pass
    path.with_name("aside").rename(path)
    with served:
        pass


def test_a_home_is_released_when_the_last_call_ends(served: ServedHome) -> None:
    with served:
        with served:
            served.release_when_idle()
        assert served.is_current()
    assert not served.is_current()


@pytest.mark.parametrize("error", [None, RuntimeError("no"), SystemExit(1)])
def test_a_driver_ends_what_it_does_in_the_background_before_its_home_is_free(
    path: Path, error: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[bool] = []

    class Works(TarBox):
        def end_background_work(self) -> None:
            ended.append(mine.is_current())
            if error:
                raise error

    mine = ServedHome(Works(), "docker")
    mine.claim(str(path))
    mine.init_driver()
    mine.close()
    assert ended == [True]
    assert not mine.is_current()
    assert ("in the background does not end" in caplog.text) == bool(error)


# --- layers ---------------------------------------------------------------------------------------


def test_a_layer_is_marked_until_it_is_on_disk(
    served: ServedHome, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def recorded(name: str, call: Callable[..., None]) -> Callable[..., None]:
        def record(*arguments: object) -> None:
            steps.append(f"{name}, marked" if marks(path) else name)
            call(*arguments)

        return record

    monkeypatch.setattr(SYNCFS, recorded("syncfs", syncfs))
    monkeypatch.setattr(os, "fsync", recorded("fsync", os.fsync))
    with served.filling("a", io.BytesIO(b"tar"), recorded("first read", lambda: None)) as tar:
        assert marks(path) == ["a"]
        assert tar.read(1) == b"t"
    assert steps == ["first read, marked", "syncfs, marked", "fsync"]
    served.expect_finished("a")


def test_without_syncs_the_mark_goes_without_one(path: Path) -> None:
    served = ServedHome(TarBox(), "docker", ["sync=none"])
    served.claim(str(path))
    served.init_driver()
    create(served, "a")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SYNCFS, pytest.fail)
        with served.filling("a", io.BytesIO()):
            pass
        served.sync()
    assert marks(path) == []
    served.close()


def test_a_layer_that_was_not_filled_to_its_end_is_refused(served: ServedHome) -> None:
    with pytest.raises(OSError, match="broken"), served.filling("a", io.BytesIO()):
        raise OSError("broken")
    with pytest.raises(LayerUnfinishedError, match="layer a is incomplete"):
        served.expect_finished("a")
    with pytest.raises(LayerUnfinishedError, match="its first transfer broke off"):
        served.expect_fillable("a", "")
    with pytest.raises(LayerExistsError, match="its transfer did not finish"):
        create(served, "a")
    with pytest.raises(LayerUnfinishedError, match="layer a is incomplete"):
        create(served, "b", "a")
    served.remove("a")
    served.expect_finished("a")


def test_a_layer_is_filled_once(served: ServedHome) -> None:
    served.expect_fillable("a", "")
    with served.filling("a", io.BytesIO()):
        pass
    with pytest.raises(LayerUnfinishedError, match="this one was filled before"):
        served.expect_fillable("a", "")


@pytest.mark.parametrize("is_read", [False, True])
def test_a_call_that_the_driver_refused_before_it_read_anything_may_come_again(
    served: ServedHome, is_read: bool
) -> None:
    with pytest.raises(InUseError), served.filling("a", io.BytesIO(b"tar")) as tar:
        if is_read:
            tar.read(1)
        raise InUseError("busy")
    if is_read:
        with pytest.raises(LayerUnfinishedError):
            served.expect_fillable("a", "")
    else:
        served.expect_fillable("a", "")


class Exits(TarBox):
    """A driver that exits when it is asked what a killed daemon left behind."""

    def release_leftovers(self) -> None:
        raise SystemExit(3)

    def is_leftover(self, id: str) -> bool:
        raise SystemExit(3)


def test_a_driver_that_exits_in_the_sweep_keeps_no_daemon_from_starting(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = ServedHome(Exits(), "docker")
    served.claim(str(path))
    served.init_driver()
    create(served, "a")
    with pytest.raises(OSError, match="broken"), served.filling("a", io.BytesIO()):
        raise OSError("broken")
    served.sweep_leftovers()
    assert caplog.messages == [
        "mounts that an earlier daemon left cannot be unmounted",
        "the unfinished layer a cannot be removed",
    ]
    served.close()


# --- references -----------------------------------------------------------------------------------


class CountsOnDisk(TarBox):
    """A driver whose counts outlive its process."""

    counts: ClassVar[dict[str, int]] = {"a": 2, "old": 1}

    def held_layers(self, home: str) -> dict[str, int]:
        if home.endswith("unread"):
            raise OSError("no")
        return self.counts


@pytest.mark.parametrize("name", ["home", "unread"])
def test_references_from_before_a_restart_are_known_where_a_driver_counts_on_disk(
    tmp_path: Path, name: str
) -> None:
    served = ServedHome(CountsOnDisk(), "docker")
    assert served.references() == {}
    served.claim(str(tmp_path / name))
    served.init_driver()
    for id in ("a", "b", "b"):
        served.layers.got(id)
    served.layers.put("b")
    kept = CountsOnDisk.counts if name == "home" else {"a": 1}
    assert served.references() == {**kept, "b": 1}
    served.close()
