from __future__ import annotations

import contextlib
import errno
import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graphdriver.errors import LayerExistsError, LayerNotFoundError
from graphdriver.layer.tree.remove import SMALL_FILE, remove_small_tree
from graphdriver.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(str(tmp_path))
    yield store
    store.settle()


def make(store: Store, id: str, content: str = "") -> None:
    with store.staged(id) as directory:
        Path(directory, "content").write_text(content)


def in_trash(store: Store) -> list[str]:
    return os.listdir(os.path.join(store.home, ".trash"))


def in_staging(store: Store) -> list[str]:
    return os.listdir(os.path.join(store.home, ".staging"))


def test_a_layer_appears_only_when_it_is_finished(store: Store) -> None:
    with store.staged("a") as directory:
        Path(directory, "content").touch()
        assert not store.exists("a")
    assert store.exists("a")
    assert os.listdir(store.path("a")) == ["content"]
    assert in_staging(store) == []


def test_a_layer_that_fails_to_be_made_leaves_nothing(store: Store) -> None:
    with pytest.raises(OSError, match="disk full"), store.staged("a") as directory:
        os.makedirs(os.path.join(directory, "half", "done"))
        raise OSError(28, "disk full")
    assert not store.exists("a")
    assert in_staging(store) == []
    store.settle()
    assert in_trash(store) == []
    make(store, "a")
    assert store.exists("a")


EVERYBODY = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, 7, 1000 if tag == 2 else 0xFFFFFFFF) for tag in (1, 2, 4, 16, 32)
)
"""An access control list (``struct posix_acl_xattr_header`` and its entries)."""


@pytest.mark.parametrize("mode", [0o700, 0o2700])
@pytest.mark.parametrize("has_list", [False, True])
def test_a_layer_inherits_no_list_and_no_group(store: Store, mode: int, has_list: bool) -> None:
    staging = Path(store.home, ".staging")
    if has_list:
        os.setxattr(staging, "system.posix_acl_default", EVERYBODY)
    os.chown(staging, 0, 1234)
    staging.chmod(mode)
    make(store, "a")
    found = os.stat(store.path("a"))
    assert (found.st_mode & 0o7777, found.st_gid) == (0o710, 0)
    assert os.listxattr(store.path("a")) == []


def test_an_existing_layer_is_never_replaced(store: Store) -> None:
    make(store, "a", "first")
    with pytest.raises(LayerExistsError):
        make(store, "a", "second")
    assert Path(store.path("a"), "content").read_text() == "first"


def test_a_layer_that_appeared_meanwhile_is_not_replaced(store: Store) -> None:
    with pytest.raises(OSError, match="not empty"), store.staged("a") as directory:
        Path(directory, "content").write_text("late")
        there = Path(store.home, "a")
        there.mkdir()
        (there / "content").write_text("early")
    assert Path(store.path("a"), "content").read_text() == "early"
    assert in_staging(store) == []


@pytest.mark.parametrize("round", range(20))
def test_one_of_many_that_make_the_same_layer_wins(store: Store, round: int) -> None:
    start = threading.Barrier(8)
    outcomes: list[str | None] = []

    def attempt(content: str) -> None:
        start.wait()
        try:
            make(store, "a", content)
        except (LayerExistsError, OSError):
            outcomes.append(None)
        else:
            outcomes.append(content)

    threads = [threading.Thread(target=attempt, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    winners = [content for content in outcomes if content is not None]
    assert winners == [Path(store.path("a"), "content").read_text()]
    assert in_staging(store) == []


def test_a_removed_layer_is_gone_at_once_and_its_id_free(store: Store) -> None:
    make(store, "a", "first")
    store.remove("a")
    assert not store.exists("a")
    make(store, "a", "second")
    store.settle()
    assert Path(store.path("a"), "content").read_text() == "second"
    assert in_trash(store) == []


def test_removing_what_is_not_there_succeeds(store: Store) -> None:
    store.remove("a")
    make(store, "a")
    store.remove("a")
    store.remove("a")


def test_layers_that_are_not_there_are_not_found(store: Store) -> None:
    with pytest.raises(LayerNotFoundError, match="the layer does not exist"):
        store.path("a")
    with pytest.raises(LayerNotFoundError, match="parent a does not exist"):
        store.parent_path("a")


def test_what_a_crash_left_is_swept(tmp_path: Path) -> None:
    make(Store(str(tmp_path)), "kept", "whole")
    (tmp_path / ".staging" / "half" / "root" / "deep").mkdir(parents=True)
    (tmp_path / ".staging" / "half" / "root" / "file").touch()
    (tmp_path / ".trash" / "0-0" / "root").mkdir(parents=True)
    (tmp_path / ".trash" / "file").touch()
    store = Store(str(tmp_path))
    assert in_staging(store) == []
    store.settle()
    assert in_trash(store) == []
    assert not store.exists("half")
    assert Path(store.path("kept"), "content").read_text() == "whole"


def test_a_layer_can_be_made_whose_leftover_could_not_be_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".staging" / "half" / "root").mkdir(parents=True)

    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refused)
        store = Store(str(tmp_path))
    assert in_staging(store) == ["half"]
    make(store, "half", "whole")
    assert os.listdir(store.path("half")) == ["content"]
    store.settle()


@contextlib.contextmanager
def undeletable(directory: Path) -> Iterator[None]:
    """Mount something on a directory for a while, so that nobody may empty it, wherever it is moved."""
    subprocess.run(["mount", "--bind", str(directory), str(directory)], check=True)
    fd = os.open(directory, os.O_RDONLY)
    try:
        yield
    finally:
        place = os.readlink(f"/proc/self/fd/{fd}")
        os.close(fd)
        subprocess.run(["umount", place], check=True)


def test_what_a_container_made_immutable_is_deleted(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    make(store, "a")
    directory = Path(store.path("a"), "inside")
    directory.mkdir()
    for name in ("kept", "log"):
        (directory / name).touch()
    subprocess.run(["chattr", "+i", str(directory / "kept")], check=True)
    subprocess.run(["chattr", "+a", str(directory / "log"), str(directory)], check=True)
    store.remove("a")
    store.settle()
    assert in_trash(store) == []


def test_what_cannot_be_deleted_holds_up_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = tmp_path / ".trash" / "stuck"
    (stuck / "inside").mkdir(parents=True)
    (stuck / "inside" / "file").touch()
    with undeletable(stuck / "inside"):
        store = Store(str(tmp_path))
        make(store, "a")
        store.remove("a")
        assert not store.exists("a")
        store.settle()
        assert in_trash(store) == ["stuck"]
        assert "stuck cannot be deleted" in caplog.text
    Store(str(tmp_path)).settle()
    assert in_trash(store) == []


def test_trash_that_stayed_is_in_nobodys_way(tmp_path: Path) -> None:
    """In a container every plugin is process 1: what names trash must not begin anew with it."""
    first = Store(str(tmp_path))
    make(first, "a")
    directory = Path(first.path("a"))
    (directory / "inside").mkdir()
    (directory / "inside" / "file").touch()
    with undeletable(directory / "inside"):
        first.remove("a")
        first.settle()
        (tmp_path / ".staging" / "half").mkdir()
        second = Store(str(tmp_path))
        assert in_staging(second) == []
        make(second, "a")
        second.remove("a")
        second.settle()
        assert not second.exists("a")
        assert len(in_trash(second)) == 1
    Store(str(tmp_path)).settle()


def test_a_removal_that_gets_no_thread_is_done_with_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id in "ab":
        make(store, id)
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", no_thread)
        store.remove("a")
    assert not store.exists("a")
    assert "can't start new thread" in dict(store.status())["Undeleted"]
    store.remove("b")
    store.settle()
    assert in_trash(store) == []
    assert store.status() == ()


def test_a_small_layer_is_deleted_without_a_thread_and_any_other_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path), delete_small=remove_small_tree)
    make(store, "small")
    make(store, "large", "x" * (SMALL_FILE + 4096))
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", no_thread)
        store.remove("small")
        assert in_trash(store) == []
        store.remove("large")
        assert len(in_trash(store)) == 1
        make(store, "small")
        store.remove("small")  # tries the large one again, and so needs the thread
        assert len(in_trash(store)) == 2
    make(store, "small")
    store.remove("small")
    store.settle()
    assert in_trash(store) == []


def no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_trash_that_cannot_be_opened_is_emptied_when_it_can(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id in "ab":
        make(store, id)
    real = os.open

    def no_descriptor(path: Any, *arguments: Any, **named: Any) -> int:
        if str(path).endswith(".trash"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, *arguments, **named)

    with monkeypatch.context() as limited:
        limited.setattr(os, "open", no_descriptor)
        store.remove("a")
        store.settle()
    assert "files open, as many as it may" in dict(store.status())["Undeleted"]
    store.remove("b")
    store.settle()
    assert in_trash(store) == []


def test_a_trash_that_somebody_removed_is_made_again(store: Store) -> None:
    make(store, "a")
    os.rmdir(os.path.join(store.home, ".trash"))
    store.remove("a")
    assert not store.exists("a")
    store.settle()
    assert in_trash(store) == []


def test_what_cannot_be_deleted_is_told_and_tried_with_each_removal(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for id in "abc":
        make(store, id)
    directory = Path(store.path("a"), "inside")
    directory.mkdir()
    with undeletable(directory):
        for id in "ab":
            store.remove(id)
            store.settle()
            (told,) = store.status()
            assert told[0] == "Undeleted"
            assert "1 removed layer in" in told[1]
            assert "something is mounted on 'inside'" in told[1]
    store.remove("c")
    store.settle()
    assert store.status() == ()
    assert in_trash(store) == []


def test_the_drivers_own_directory_is_no_layer_to_be_removed(tmp_path: Path) -> None:
    store = Store(str(tmp_path), own=("l",))
    (tmp_path / "l").mkdir()
    store.remove("l")
    assert (tmp_path / "l").is_dir()


def test_a_layer_that_an_administrator_has_closed_stays(store: Store) -> None:
    make(store, "a", "content")
    os.chmod(store.path("a"), 0)
    again = Store(store.home)
    again.settle()
    assert Path(again.path("a"), "content").read_text() == "content"


def test_only_the_owning_group_passes_through_a_layers_directory(tmp_path: Path) -> None:
    store = Store(str(tmp_path), group=100_000)
    make(store, "a")
    found = os.stat(store.path("a"))
    assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o710, 0, 100_000)
