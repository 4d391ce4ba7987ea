"""Tars are read one after the other; what follows a tar's end goes on beside the next one."""

from __future__ import annotations

import io
import threading

import pytest

from graphdriver.blobs.in_turn import InTurn
from graphdriver.errors import BrokenStreamError


def read_beside(turn: threading.Lock) -> tuple[threading.Thread, list[bytes]]:
    """Read another tar in a thread; return that, and what it read so far."""
    pieces: list[bytes] = []

    def run() -> None:
        with InTurn(io.BytesIO(b"other"), turn) as tar:
            pieces.append(tar.read(100))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, pieces


def test_a_tar_waits_for_the_end_of_the_one_that_is_read() -> None:
    turn = threading.Lock()
    with InTurn(io.BytesIO(b"first"), turn) as tar:
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
    with InTurn(io.BytesIO(b"first"), turn) as tar:
        assert tar.read(1) == b"f"
    thread, pieces = read_beside(turn)
    thread.join()
    assert pieces == [b"other"]


def test_a_tar_that_breaks_off_gives_its_turn_to_the_next_one() -> None:
    class Broken(io.BytesIO):
        def read(self, n: int | None = -1, /) -> bytes:
            raise BrokenStreamError("broken")

    turn = threading.Lock()
    with pytest.raises(BrokenStreamError), InTurn(Broken(), turn) as tar:
        tar.read(1)
    thread, pieces = read_beside(turn)
    thread.join()
    assert pieces == [b"other"]


def test_a_tar_that_nobody_reads_takes_no_turn() -> None:
    turn = threading.Lock()
    with InTurn(io.BytesIO(b"first"), turn):
        thread, pieces = read_beside(turn)
        thread.join()
        assert pieces == [b"other"]
