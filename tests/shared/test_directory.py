"""A store in a directory: nothing outside of it; one of two writers; what a kernel lacks."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from graphdriver.errors import UnsupportedError
from graphdriver.shared.directory import DirectoryStore

KEY = f"sha256/ab/{'ab' * 32}.erofs"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    (tmp_path / "store").mkdir()
    with closing(DirectoryStore(str(tmp_path / "store"))) as made:
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
        with pytest.raises(OSError, match=r"symbolic links|cross-device"):
            store.read(key)
    os.symlink("../secret", Path(store.address, "sha256"))
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        store.put(KEY, io.BytesIO(b"content"))
    assert os.listdir(secret) == ["file"]


def test_what_is_not_a_file_is_not_opened(store: DirectoryStore) -> None:
    os.mkfifo(Path(store.address, "fifo"))
    with pytest.raises(OSError, match="not a regular file"):
        store.read("fifo")


def test_a_store_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="mount it"):
        DirectoryStore(str(tmp_path / "missing"))
