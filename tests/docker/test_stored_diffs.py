"""A Diff that is a stored tar: its length is known, and damage on disk breaks it off."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import wire
from graphdriver.errors import BrokenStreamError
from graphdriver.layer.erofs.stored_tar import AT_ONCE, PIECE, StoredTar
from graphdriver.layer.erofs.storing_stream import StoringStream
from tests.support.plugin import Plugin
from tests.support.waiting import wait_until

SIZES = (0, 512, PIECE, 5 * PIECE + 512, PIECE + 2 * AT_ONCE + 1)


class Stored:
    """A stored tar, and a driver whose Diff is that."""

    def __init__(self, plugin: Plugin, path: Path, size: int, *, is_local: bool = True) -> None:
        self.path = path
        self.data = random.Random(size).randbytes(size)
        path.write_bytes(self.data)
        with (
            open(path, "rb") as archive,
            open(os.devnull, "wb", buffering=0) as file,
            StoringStream(archive, file.fileno()) as stream,
        ):
            sums = stream.finish()

        def diff(id: str, parent: str) -> StoredTar:
            fd = os.open(path, os.O_RDONLY)
            return StoredTar(fd, 0, sums.size, sums.pieces, is_local=is_local)

        plugin.box.diff = diff  # type: ignore[method-assign]

    def damage(self, at: int) -> None:
        with open(self.path, "r+b") as file:
            file.seek(at)
            file.write(bytes([self.data[at] ^ 1]))


@pytest.fixture
def layer(ready: Plugin) -> Plugin:
    with ready.client() as client:
        client.create("a")
    return ready


@pytest.mark.parametrize("size", SIZES)
def test_its_length_is_told_and_the_connection_kept(
    layer: Plugin, tmp_path: Path, size: int
) -> None:
    stored = Stored(layer, tmp_path / "tar", size)
    with layer.wire() as daemon:
        for _ in range(2):
            answer = daemon.ask(wire.call("Diff", ID="a"))
            assert answer.headers["content-length"] == str(size)
            assert "transfer-encoding" not in answer.headers
            assert answer.body == stored.data


@pytest.mark.parametrize("size", SIZES)
def test_what_follows_its_last_byte_does_not_end_the_connection(
    layer: Plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The layer may be removed then."""
    Stored(layer, tmp_path / "tar", size)
    read = StoredTar.read

    def until_the_end(self: StoredTar, n: int) -> bytes:
        piece = read(self, n)
        if size and not piece:
            raise BrokenStreamError("the layer was removed")
        return piece

    monkeypatch.setattr(StoredTar, "read", until_the_end)
    with layer.wire() as daemon:
        assert daemon.ask(wire.call("Diff", ID="a")).is_whole
        assert daemon.ask(wire.call("Exists", ID="a")).members == {"Exists": True}


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize("tcp", [False, True])
def test_it_is_sent_from_memory_where_that_is_possible(
    layer: Plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_local: bool, tcp: bool
) -> None:
    stored = Stored(layer, tmp_path / "tar", 5 * PIECE + 512, is_local=is_local)
    sent = 0
    sendfile = os.sendfile

    def noted(out_fd: int, in_fd: int, offset: int, count: int) -> int:
        nonlocal sent
        # The kernel may take less than it is given.
        took = sendfile(out_fd, in_fd, offset, min(count, 100_000))
        sent += took
        return took

    monkeypatch.setattr(os, "sendfile", noted)
    with layer.wire(tcp=tcp) as daemon:
        assert daemon.ask(wire.call("Diff", ID="a")).body == stored.data
        assert daemon.ask(wire.call("Exists", ID="a")).members == {"Exists": True}
    assert sent == (4 * PIECE + 512 if is_local else 0)  # the first piece was read before


def test_a_caller_that_goes_away_ends_it(
    layer: Plugin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Stored(layer, tmp_path / "tar", 20 * AT_ONCE)
    with layer.wire() as daemon:
        daemon.send(wire.call("Diff", ID="a"))
        daemon.take(PIECE)
    wait_until(lambda: "it broke off: the caller closed the connection" in caplog.text)
    with layer.wire() as daemon:
        assert daemon.ask(wire.call("Exists", ID="a")).members == {"Exists": True}


def test_a_file_that_becomes_shorter_while_it_is_sent_breaks_it_off(
    layer: Plugin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = Stored(layer, tmp_path / "tar", 20 * AT_ONCE)
    with layer.wire() as daemon:
        daemon.send(wire.call("Diff", ID="a"))
        daemon.take(2 * PIECE)
        os.truncate(stored.path, 4 * PIECE)
        assert len(daemon.rest()) < 20 * AT_ONCE - 2 * PIECE
    assert "diff a: it broke off: the" in caplog.text
    with layer.wire() as daemon:
        assert daemon.ask(wire.call("Exists", ID="a")).members == {"Exists": True}


@pytest.mark.parametrize("size", SIZES)
def test_our_client_reads_it(layer: Plugin, tmp_path: Path, size: int) -> None:
    stored = Stored(layer, tmp_path / "tar", size)
    with layer.client() as client, client.diff("a") as diff:
        found = b""
        while piece := diff.read(100_000):
            found += piece
    assert found == stored.data


def test_damage_breaks_it_off_before_the_damaged_piece(
    layer: Plugin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = Stored(layer, tmp_path / "tar", 5 * PIECE + 512)
    stored.damage(5 * PIECE)
    with layer.wire() as daemon:
        answer = daemon.ask(wire.call("Diff", ID="a"))
        assert not answer.is_whole
        assert answer.body == stored.data[: 5 * PIECE]
        assert daemon.rest() == b""
    assert "diff a: it broke off: the layer's tar is damaged on disk" in caplog.text
    with layer.client() as client, client.diff("a") as diff, pytest.raises(BrokenStreamError):
        while diff.read(100_000):
            pass


def test_damage_in_the_first_piece_is_an_answer(layer: Plugin, tmp_path: Path) -> None:
    Stored(layer, tmp_path / "tar", 5 * PIECE).damage(0)
    with layer.wire() as daemon:
        said = daemon.ask(wire.call("Diff", ID="a"))
        assert said.status == 500
        assert said.error.startswith("diff a: the layer's tar is damaged on disk at byte 0 of")
        assert daemon.ask(wire.call("Exists", ID="a")).members == {"Exists": True}
