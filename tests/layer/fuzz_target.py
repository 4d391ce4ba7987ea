"""What the fuzzer tries with every input (`tests.layer.fuzz`).

Whatever bytes come, the reader gives entries that hold together or says that the tar is bad; an entry,
written by our own writer and read again, is the same; and where Python's tarfile reads the same header,
it reads the same in it.
"""

from __future__ import annotations

import os
import re
import tarfile
from dataclasses import replace

from graphdriver.conformance.plugin import tars
from graphdriver.driver import ReadStream
from graphdriver.errors import BadArchiveError
from graphdriver.layer.tar.entry import Entry, EntryType
from graphdriver.layer.tar.reader import TarReader
from graphdriver.layer.tar.writer import headers
from tests.layer.hostile.corpus import CORPUS

ENOUGH = 8192
"""How long an input may be: some sixteen headers."""

_ORDINARY = re.compile(rb" *[0-7]+[ \0]*|\0+")
_PLAIN_TYPES = frozenset(b"0123456")
_NUMBERS = ((100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (148, 8), (329, 8), (337, 8))


class Dribble:
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step, self._at = data, step, 0

    def read(self, n: int, /) -> bytes:
        piece = self._data[self._at : self._at + min(n, self._step)]
        self._at += len(piece)
        return piece


def repaired(data: bytes) -> bytes:
    """Make the checksum right of whatever looks like a header: to guess one takes a fuzzer for ever."""
    blocks = [data[at : at + 512] for at in range(0, len(data), 512)]
    return b"".join(
        tars.checked(block) if len(block) == 512 and block[257:262] == b"ustar" else block
        for block in blocks
    )


def target(data: bytes) -> None:
    """Try one input: its first byte says how the stream comes."""
    if not data:
        return
    tar = repaired(data[1:])
    read_all(Dribble(tar, (1, 100, 511, 512, 513, 1 << 20)[data[0] % 6]), len(tar))
    compare_with_tarfile(tar[:512])


def read_all(stream: ReadStream, length: int) -> None:
    reader = TarReader(stream)
    try:
        for entry in reader:
            assert 0 <= entry.stored <= entry.size or entry.sparse is not None
            assert b"\0" not in entry.name
            assert b"\0" not in entry.link
            assert 0 <= entry.mode <= 0o7777
            assert entry.xattrs.keys().isdisjoint({b""})
            if entry.sparse is not None:
                assert sum(size for _, size in entry.sparse) == entry.stored
                assert all(offset + size <= entry.size for offset, size in entry.sparse)
            write_and_read_again(entry)
            assert sum(map(len, reader.data())) == entry.stored <= length
    except BadArchiveError as error:
        assert str(error).isprintable()


def write_and_read_again(entry: Entry) -> None:
    if entry.sparse is not None:
        return  # our writer writes holes as zeros
    again = next(iter(TarReader(Dribble(headers(entry), 1 << 20))))
    # The reader has left a damaged attribute out, so only the one who read it knows of it.
    assert again == replace(entry, damaged_xattr=None)


def compare_with_tarfile(block: bytes) -> None:
    """Read one header as tarfile does, where its fields are of the ordinary kind."""
    numbers = [block[at : at + width] for at, width in _NUMBERS]
    if len(block) < 512 or block[156] not in _PLAIN_TYPES or block[345]:
        return
    if not all(_ORDINARY.fullmatch(number) for number in numbers):
        return
    try:
        theirs = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        ours = next(iter(TarReader(Dribble(block, 1 << 20))))
    except (tarfile.HeaderError, BadArchiveError):
        return
    assert ours.type.value == theirs.type
    assert ours.name.rstrip(b"/") == os.fsencode(theirs.name).rstrip(b"/")
    assert (ours.mode, ours.uid, ours.gid) == (theirs.mode & 0o7777, theirs.uid, theirs.gid)
    assert ours.mtime_ns == theirs.mtime * 1_000_000_000
    assert ours.link == os.fsencode(theirs.linkname)
    assert ours.type is not EntryType.FILE or ours.size == theirs.size


def seeds() -> list[bytes]:
    """Return tars to begin with."""
    honest = [
        tars.file(b"f", b"content", magic=magic) + tars.directory(b"d/") + tars.symlink(b"l", b"f")
        for magic in (tars.USTAR, tars.GNU, tars.V7)
    ]
    damaged = tars.pax([(b"LIBARCHIVE.xattr.user.a", b"no base64!")]) + tars.file(b"f", b"content")
    attacks = [maker(b"/nowhere") for maker in CORPUS]
    wicked = [b"".join((*attack.trap, *attack.blow)) for attack in attacks]
    return [b"\5" + tar for tar in (*honest, damaged, *wicked) if len(tar) < ENOUGH]
