"""A stored tar is checked where it is in memory, and stays there while it is sent."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.errors import BrokenStreamError
from graphdriver.layer.erofs.stored_tar import AT_ONCE, PIECE, StoredTar
from graphdriver.linux.locked_pages import LockedPages
from tests.layer.erofs.test_stored_tar import OFFSET, some_bytes, store

SIZE = 3 * AT_ONCE + PIECE + 512


@contextlib.contextmanager
def opened(path: Path, *, is_local: bool = True, size: int = SIZE) -> Iterator[StoredTar]:
    """Store a tar, and open it."""
    sums = store(path, some_bytes(size))
    fd = os.open(path, os.O_RDONLY)
    tar = StoredTar(fd, OFFSET, sums.size, sums.pieces, is_local=is_local)
    with contextlib.closing(tar):
        yield tar


def parts_of(tar: StoredTar) -> Iterator[bytes | None]:
    """Yield what is in memory, part by part, and None where it has to be read."""
    while True:
        with tar.in_memory() as part:
            yield os.pread(part.fd, part.size, part.offset) if part else None
            if part is None:
                return


def locked() -> int:
    """Return how much memory of this process is locked, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmLck:"))


@pytest.mark.parametrize("size", [1, PIECE, AT_ONCE, AT_ONCE + 1, SIZE])
def test_all_of_it_is_given_out_once(tmp_path: Path, size: int) -> None:
    with opened(tmp_path / "file", size=size) as tar:
        parts = list(parts_of(tar))
        assert parts.pop() is None  # the end
        assert b"".join(filter(None, parts)) == some_bytes(size)
        assert tar.read(1) == b""


def test_only_the_part_that_is_sent_is_locked(tmp_path: Path) -> None:
    before = locked()
    with opened(tmp_path / "file") as tar:
        for _ in range(2):
            with tar.in_memory() as part:
                assert part
                assert part.size <= locked() - before <= part.size + 8192
            assert locked() == before
            assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_what_was_begun_by_reading_goes_on_by_reading(tmp_path: Path) -> None:
    data = some_bytes(SIZE)
    with opened(tmp_path / "file") as tar:
        assert tar.read(1000) == data[:1000]
        with tar.in_memory() as part:
            assert part is None
        assert tar.read(PIECE) == data[1000:PIECE]
        with tar.in_memory() as part:
            assert part == (part and part.fd, OFFSET + PIECE, AT_ONCE)
        assert tar.read(5) == data[PIECE + AT_ONCE :][:5]


@pytest.mark.parametrize("at", [0, AT_ONCE - 1, AT_ONCE, SIZE - 1])
def test_damage_is_left_to_a_read(tmp_path: Path, at: int) -> None:
    data = some_bytes(SIZE)
    with opened(tmp_path / "file") as tar:
        with open(tmp_path / "file", "r+b") as file:
            file.seek(OFFSET + at)
            file.write(bytes([data[at] ^ 1]))
        given = b"".join(part for part in parts_of(tar) if part)
        assert given == data[: at // AT_ONCE * AT_ONCE]
        with pytest.raises(BrokenStreamError, match="damaged on disk at byte"):
            while piece := tar.read(PIECE):
                given += piece
        assert given == data[: at // PIECE * PIECE]


@pytest.mark.parametrize(
    "left", [0, OFFSET, OFFSET + PIECE, OFFSET + AT_ONCE + 1, OFFSET + SIZE - 1]
)
def test_a_file_that_was_cut_is_a_broken_stream(tmp_path: Path, left: int) -> None:
    with opened(tmp_path / "file") as tar:
        os.truncate(tmp_path / "file", left)
        assert all(parts_of(tar)) is False
        with pytest.raises(BrokenStreamError):
            while tar.read(PIECE):
                pass


def test_a_file_that_others_can_change_is_read(tmp_path: Path) -> None:
    with opened(tmp_path / "file", is_local=False) as tar:
        assert list(parts_of(tar)) == [None]
        assert tar.read(PIECE) == some_bytes(SIZE)[:PIECE]


def test_a_file_that_somebody_has_open_for_writing_is_read(tmp_path: Path) -> None:
    with opened(tmp_path / "file") as tar, open(tmp_path / "file", "r+b"):
        assert list(parts_of(tar)) == [None]
        assert tar.read(PIECE) == some_bytes(SIZE)[:PIECE]


def test_a_file_is_read_where_no_memory_can_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(pages: LockedPages, fd: int, at: int, size: int) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with opened(tmp_path / "file") as tar:
        with tar.in_memory() as part:
            assert part
        monkeypatch.setattr(LockedPages, "__init__", refused)
        assert list(parts_of(tar)) == [None]
        assert tar.read(PIECE) == some_bytes(SIZE)[AT_ONCE:][:PIECE]


def test_whoever_writes_waits_for_the_end_of_the_check(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000)
    fd = os.open(path, os.O_RDONLY)
    pages = LockedPages(fd, 5000, 5000)
    cutting = threading.Thread(target=os.truncate, args=(path, 0))
    cutting.start()
    cutting.join(0.2)
    assert cutting.is_alive()
    assert bytes(pages.data) == b"x" * 5000
    pages.end_lease()
    cutting.join()
    pages.close()
    before = locked()
    with pytest.raises(OSError, match="mlock"):
        LockedPages(fd, 5000, 5000)
    assert fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_UNLCK
    assert locked() == before
    os.close(fd)


def test_a_process_survives_a_file_that_is_cut_while_it_is_checked(tmp_path: Path) -> None:
    program = """if True:
        import contextlib, os, sys, threading
        from graphdriver.errors import BrokenStreamError
        from graphdriver.layer.erofs.stored_tar import PIECE, PieceSums, StoredTar
        path, sums, data = sys.argv[1], PieceSums(), os.urandom(8 * PIECE)
        sums.add(data)
        def write():
            with open(path, "wb") as file:
                file.write(data)
        write()
        done = threading.Event()
        def cut():
            while not done.is_set():
                os.truncate(path, 5 * PIECE)
                write()
        cutting = threading.Thread(target=cut)
        cutting.start()
        for _ in range(300):
            tar = StoredTar(os.open(path, 0), 0, len(data), sums.sums(), is_local=True)
            with contextlib.closing(tar), contextlib.suppress(BrokenStreamError):
                for _ in range(2):
                    with tar.in_memory():
                        pass
                while tar.read(PIECE):
                    pass
        done.set()
        cutting.join()
        """
    subprocess.run([sys.executable, "-c", program, tmp_path / "file"], check=True)
