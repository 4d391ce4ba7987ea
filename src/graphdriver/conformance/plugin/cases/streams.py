"""Much: files of gigabytes, and many of them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Final

from graphdriver.conformance.kit.case import Group, Need
from graphdriver.conformance.kit.expect import expect
from graphdriver.conformance.plugin import tars
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("streams", "files of gigabytes, and many files")

_GIGABYTE: Final = 1 << 30
_LARGE: Final = 400 << 20
_MEMORY: Final = 256 << 20
_PIECE: Final = 1 << 20
_FILES: Final = 20_000


class _Pieces:
    """A stream of pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def read(self, n: int, /) -> bytes:
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._held = piece
        piece, self._held = self._held[:n], self._held[n:]
        return piece


def _block(number: int) -> bytes:
    """Return a piece that is like no other, cheaply."""
    return hashlib.blake2b(number.to_bytes(8, "big")).digest() * (_PIECE // 64)


def _big() -> Iterator[bytes]:
    yield tars.header(b"big", size=_GIGABYTE)
    yield from map(_block, range(_GIGABYTE // _PIECE))
    yield tars.END


def _digest(pieces: Iterator[bytes]) -> str:
    digest = hashlib.blake2b()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


@GROUP.case()
def file_of_a_gigabyte(kit: Kit) -> None:
    """A file of a gigabyte can be applied, read and returned in a Diff.

    Layers of gigabytes are common, for example with models or databases. Sizes beyond 2^31, buffers
    and timeouts fail first here.
    """
    id = kit.layer()
    expect("Size", kit.driver.apply_diff(id, "", _Pieces(_big())), _GIGABYTE)
    with kit.shown(id, is_read=True) as root, open(root / "big", "rb") as file:
        pieces = iter(lambda: file.read(_PIECE), b"")
        shown = _digest(itertools.islice(pieces, _GIGABYTE // _PIECE + 1))
    expected = _digest(map(_block, range(_GIGABYTE // _PIECE)))
    expect("the digest of the file that is shown", shown, expected)
    count = sum(len(piece) for piece in kit.pieces(id, longest=2 * _GIGABYTE))
    expect("whether the Diff holds all of it", count > _GIGABYTE, True)


@GROUP.case(Need.SOCKET, required=False)
def little_memory(kit: Kit) -> None:
    """A layer of 400 MiB is applied and returned with the plugin's memory below 256 MiB.

    A plugin that collects a layer in memory is killed when a large image is loaded, and may take
    other processes of the host with it.
    """
    if not (pid := kit.subject.pid()):
        return
    blocks = map(_block, range(_LARGE // _PIECE))
    header = tars.header(b"big", size=_LARGE)
    id = kit.layer()
    kit.driver.apply_diff(id, "", _Pieces(itertools.chain([header], blocks, [tars.END])))
    for _ in kit.pieces(id, longest=2 * _LARGE):
        pass
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        status = dict(line.split(":", 1) for line in file)
    peak = int(status["VmHWM"].split()[0]) << 10
    limit = _MEMORY >> 20
    expect(f"whether the plugin's peak of {peak >> 20} MiB is below {limit}", peak < _MEMORY, True)


@GROUP.case()
def twenty_thousand_files(kit: Kit) -> None:
    """A layer of 20,000 files in 200 directories is complete, and so is its Diff.

    A Debian image has about 20,000 entries, a Node.js image many more.
    """
    directories = (tars.directory(b"d%d" % number) for number in range(200))
    files = (tars.file(b"d%d/f%d" % (n % 200, n), b"%d" % n) for n in range(_FILES))
    id = kit.layer()
    kit.driver.apply_diff(id, "", _Pieces(itertools.chain(directories, files, [tars.END])))
    with kit.shown(id, is_read=True) as root:
        found = sum(len(list(directory.iterdir())) for directory in root.iterdir())
        expect("one file in the midst", (root / "d123" / "f10123").read_text(), "10123")
    expect("how many files there are", found, _FILES)
    expect("DiffSize", kit.driver.diff_size(id, ""), sum(len(str(n)) for n in range(_FILES)))
    again = kit.applied(kit.diff(id))
    with kit.shown(again, is_read=True) as root:
        found = sum(len(list(directory.iterdir())) for directory in root.iterdir())
    expect("how many files there are after Diff and ApplyDiff", found, _FILES)
