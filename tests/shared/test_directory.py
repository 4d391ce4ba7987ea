"""A store in a directory: nothing outside of it; one of two writers; what is no store."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from graphdriver.errors import BadArchiveError, UnsupportedError
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.opening import open_store
from graphdriver.shared.store import AwayError, NotStoredError

KEY = f"sha256/ab/{'ab' * 32}.erofs"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    (tmp_path / "store").mkdir()
    with closing(DirectoryStore(str(tmp_path / "store"), may_be_new=True)) as made:
        yield made


def content(store: DirectoryStore, start: int = 0) -> bytes:
    with closing(store.read(KEY, start)) as stream:
        return stream.read(1000)


def test_one_of_two_at_once_puts_it_there(store: DirectoryStore) -> None:
    both = threading.Barrier(2)
    done: list[bool] = []

    def put() -> None:
        both.wait()
        done.append(store.put(KEY, io.BytesIO(b"the same")))

    threads = [threading.Thread(target=put) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(done) == [False, True]


def test_where_there_are_no_hard_links_it_is_renamed(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "link", no_links)
    assert store.put(KEY, io.BytesIO(b"content"))
    assert content(store) == b"content"
    assert [one.key for one in store.stored()] == [KEY]


def test_reading_counts_as_use(store: DirectoryStore) -> None:
    store.put(KEY, io.BytesIO(b"content"))
    os.utime(Path(store.address, KEY), (0, 0))
    (before,) = store.stored()
    content(store)
    (after,) = store.stored()
    assert before.unused > 1e9
    assert after.unused < 60


def test_links_lead_nowhere(store: DirectoryStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("secret")
    os.symlink("../secret", Path(store.address, "out"))
    os.symlink("../secret/file", Path(store.address, "file"))
    for key in ("out/file", "file", "../secret/file"):
        with pytest.raises(
            BadArchiveError, match=r"symbolic links|cross-device|not a regular file"
        ):
            store.read(key)
    os.symlink("../secret", Path(store.address, "sha256"))
    with pytest.raises(BadArchiveError, match=r"symbolic links|Not a directory"):
        store.put(KEY, io.BytesIO(b"content"))
    assert os.listdir(secret) == ["file"]


def test_what_is_not_a_file_is_not_opened(store: DirectoryStore) -> None:
    os.mkfifo(Path(store.address, "fifo"))
    with pytest.raises(BadArchiveError, match="not a regular file"):
        store.read("fifo")


def test_what_is_not_ours_is_not_listed(store: DirectoryStore) -> None:
    store.put(KEY, io.BytesIO(b"content"))
    place = os.fsencode(store.address)
    ours = {KEY, f"{KEY}.removed", ".new/0123.clock", f"leases/{KEY}/node.lease"}
    names = [b"README", b"\xff/\xfe.erofs", b"sha256/ab/notes.json", b"lost+found/#1"]
    for name in (*names, *map(os.fsencode, ours)):
        path = os.path.join(place, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "ab"):
            pass
    assert {one.key for one in store.stored()} == ours


CALLS: list[Callable[[DirectoryStore], object]] = [
    lambda store: store.size(KEY),
    lambda store: store.read(KEY),
    lambda store: store.put(KEY, io.BytesIO(b"content")),
    lambda store: store.touch(KEY),
    lambda store: list(store.stored()),
    lambda store: store.remove(KEY),
    lambda store: store.remove_unless(KEY, lambda: False),
]


@pytest.mark.parametrize("call", CALLS)
def test_in_the_place_of_a_mount_that_is_missing_nothing_is_written(
    call: Callable[[DirectoryStore], object], tmp_path: Path
) -> None:
    place = tmp_path / "store"
    store = DirectoryStore(str(place))
    with pytest.raises(AwayError, match="mount it"):
        call(store)
    place.mkdir()
    with pytest.raises(AwayError, match="mount the store there"):
        call(store)
    assert os.listdir(place) == []


def test_a_directory_of_others_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "chains").write_text("a file")
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(AwayError, match="is no store"):
        list(DirectoryStore(str(tmp_path)).stored())


def test_a_directory_becomes_a_store_by_the_first_object(tmp_path: Path) -> None:
    place = tmp_path / "store"
    with closing(open_store(str(place), may_be_new=True)) as store:
        with pytest.raises(AwayError, match="mount it, or make the directory"):
            store.put(KEY, io.BytesIO(b"content"))
        place.mkdir()
        assert list(store.stored()) == []
        with pytest.raises(NotStoredError):
            store.read(KEY)
        assert not (place / "chains").exists()
        assert store.put(KEY, io.BytesIO(b"content"))
    assert content(DirectoryStore(str(place))) == b"content"


@pytest.mark.root
def test_a_store_that_is_mounted_later_is_seen_and_can_be_unmounted(
    store: DirectoryStore, tmp_path: Path
) -> None:
    store.put(KEY, io.BytesIO(b"content"))
    place = tmp_path / "mounted"
    place.mkdir()
    other = DirectoryStore(str(place))
    for _ in range(2):
        with pytest.raises(AwayError):
            other.size(KEY)
        subprocess.run(["mount", "--bind", store.address, str(place)], check=True)
        assert content(other) == b"content"
        subprocess.run(["umount", str(place)], check=True)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnsupportedError, match="is not a directory"):
        DirectoryStore(str(tmp_path / "file"))
