"""Tars are read one after the other; what follows a tar's end goes on beside the next one."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import queue
import threading
from collections.abc import Iterator

import pytest

from graphdriver.blobs import in_turn
from graphdriver.blobs.in_turn import InTurn
from graphdriver.blobs.read_ahead import ReadAhead
from graphdriver.driver import ReadStream
from graphdriver.errors import BrokenStreamError


class Slow:
    """A stream whose pieces come when they are sent."""

    def __init__(self) -> None:
        self.pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read(self, n: int, /) -> bytes:
        return self.pieces.get()


@contextlib.contextmanager
def read_in_turn(stream: ReadStream, turn: threading.Lock) -> Iterator[InTurn]:
    with ReadAhead(stream) as ahead, InTurn(ahead, turn) as tar:
        yield tar


def read_beside(turn: threading.Lock) -> tuple[threading.Thread, list[bytes]]:
    """Read another tar in a thread; return that, and what it read so far."""
    pieces: list[bytes] = []

    def run() -> None:
        with read_in_turn(io.BytesIO(b"other"), turn) as tar:
            pieces.append(tar.read(100))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, pieces


def test_a_tar_waits_for_the_end_of_the_one_that_is_read() -> None:
    turn = threading.Lock()
    with read_in_turn(io.BytesIO(b"first"), turn) as tar:
        assert tar.read(100) == b"first"
        thread, pieces = read_beside(turn)
        thread.join(0.1)
        assert pieces == []
        assert tar.read(100) == b""
        thread.join()
        assert pieces == [b"other"]
        assert tar.read(100) == b""


def test_a_tar_that_is_not_read_to_its_end_gives_its_turn_to_the_next_one() -> None:
    turn = threading.Lock()
    with read_in_turn(io.BytesIO(b"first"), turn) as tar:
        assert tar.read(1) == b"f"
    thread, pieces = read_beside(turn)
    thread.join()
    assert pieces == [b"other"]


def test_a_tar_that_breaks_off_gives_its_turn_to_the_next_one() -> None:
    class Broken(io.BytesIO):
        def read(self, n: int | None = -1, /) -> bytes:
            raise BrokenStreamError("broken")

    turn = threading.Lock()
    with pytest.raises(BrokenStreamError), read_in_turn(Broken(), turn) as tar:
        tar.read(1)
    thread, pieces = read_beside(turn)
    thread.join()
    assert pieces == [b"other"]


@pytest.mark.parametrize("before", [b"", b"first"], ids=["at its beginning", "in its middle"])
def test_a_tar_whose_bytes_do_not_come_holds_up_no_other(before: bytes) -> None:
    turn = threading.Lock()
    slow = Slow()
    with read_in_turn(slow, turn) as tar:
        if before:
            slow.pieces.put(before)
            assert tar.read(100) == before
        rest: list[bytes] = []
        reading = threading.Thread(target=lambda: rest.append(tar.read(100)))
        reading.start()
        thread, pieces = read_beside(turn)
        thread.join(20)
        assert pieces == [b"other"]
        assert rest == []
        slow.pieces.put(b"last")
        reading.join()
        assert rest == [b"last"]
        slow.pieces.put(b"")
        assert tar.read(100) == b""
    assert not turn.locked()


def test_a_tar_whose_bytes_do_not_come_is_broken_off_when_its_reader_fails() -> None:
    slow = Slow()
    with (
        pytest.raises(OSError, match="No space"),
        ReadAhead(slow, lambda: slow.pieces.put(b"")) as ahead,
        InTurn(ahead, threading.Lock()),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_tar_that_has_given_up_its_turn_waits_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_turn, "PATIENCE", 0.0)
    turn = threading.Lock()
    slow = Slow()
    with read_in_turn(slow, turn) as tar:
        slow.pieces.put(b"first")
        assert tar.read(100) == b"first"
        rest: list[bytes] = []
        reading = threading.Thread(target=lambda: rest.append(tar.read(100)))
        reading.start()
        with turn:  # given up
            slow.pieces.put(b"last")
            reading.join(0.1)
            assert rest == []
        reading.join()
        assert rest == [b"last"]
        slow.pieces.put(b"")
