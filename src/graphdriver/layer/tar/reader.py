"""The reader: reads a tar as entries, strictly, and with bounded memory even for a hostile tar.

All dialects of layers are read: v7, ustar, star, old GNU and PAX. Where two readers of one tar may
disagree, this one follows the daemon's (Go's ``archive/tar``), because the daemon reads the same bytes
and later asks for the files that it saw:

- directories, links and devices have no data, and their size field is ignored;
- an extended header belongs to the next entry that is a file, also behind long names (``L``, ``K``),
  and its size takes precedence (CVE-2025-62518);
- the archive ends with two blocks of zeros, or where the stream ends instead of a header. What follows
  the two blocks is read and ignored.

A long name, an extended header or a sparse map has at most a mebibyte, and the defaults of global
headers a kibibyte together: a small tar must not take long. A single block is
`graphdriver.layer.tar.header`, a record `graphdriver.layer.tar.pax`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphdriver.driver import ReadStream
from graphdriver.errors import BadArchiveError
from graphdriver.layer.tar import header, pax, sparse
from graphdriver.layer.tar.entry import Entry, EntryType, show
from graphdriver.layer.tar.header import BLOCK, number, text
from graphdriver.layer.tar.stream import ExactStream

_ZEROS = bytes(BLOCK)
_DESCRIBING = frozenset({b"x", b"g", b"L", b"K"})


class TarReader:
    """The entries of a tar, one at a time, and the data of the current one.

    Args:
        archive: the tar.

    Attributes:
        has_nonzero_padding: whether the last block of some entry is not filled up with zeros.
    """

    def __init__(self, archive: ReadStream) -> None:
        self.has_nonzero_padding = False
        self._stream = ExactStream(archive)
        self._data_end = 0
        self._next_header = 0
        self._defaults: pax.Records = {}

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries; after the last one, the stream has been read to its end.

        Raises:
            BadArchiveError: the tar is damaged; the text names the entry, or the one before it.
            BrokenStreamError: the stream broke off.
        """
        last = b""
        while True:
            try:
                entry = self._next()
            except BadArchiveError as error:
                where = f"after {show(last)}" if last else "at the first entry"
                raise BadArchiveError(f"{where}: {error.problem}", hint=error.hint) from None
            if entry is None:
                self._stream.drain()
                return
            last = entry.name
            yield entry

    @property
    def data_start(self) -> int:
        """Where in the tar the rest of the current entry's data begins, in bytes."""
        return self._stream.tell()

    @property
    def data_end(self) -> int:
        """Where in the tar the current entry's data end, in bytes."""
        return self._data_end

    def data(self, n: int | None = None) -> Iterator[memoryview]:
        """Yield the next ``n`` bytes of the current entry's data as they arrive; None: all the rest.

        Raises:
            BadArchiveError: the tar ends before that.
        """
        left = self._data_end - self._stream.tell()
        return self._stream.pieces(left if n is None else min(n, left))

    def all_data(self) -> bytes:
        """Return the rest of the current entry's data in one piece; for small files.

        Raises:
            BadArchiveError: the tar ends before that.
        """
        return self._stream.exactly(self._data_end - self._stream.tell())

    def _next(self) -> Entry | None:
        rest = self._data_end - self._stream.tell()
        if rest > 0:
            self._stream.skip(rest)
        padding = self._next_header - self._data_end
        if padding and self._stream.exactly(padding).strip(b"\0"):
            self.has_nonzero_padding = True
        records: pax.Records | None = None
        long_name = long_link = b""
        while True:
            block = self._stream.take(BLOCK)
            if len(block) < BLOCK or block == _ZEROS:
                self._check_end(block, described=bool(records or long_name or long_link))
                return None
            fields = header.split(block)
            kind = fields[5]
            if kind in _DESCRIBING:
                description = self._description(fields[2])
                if kind == b"x":
                    records = pax.parse(description)
                elif kind == b"g":
                    self._set_defaults(pax.parse_global(description))
                elif kind == b"L":
                    long_name = text(description)
                else:
                    long_link = text(description)
                continue
            entry = header.parse(fields, block)
            if records or self._defaults:
                self._describe(entry, records or {})
            if long_name:
                entry.name = long_name
            if long_link:
                entry.link = long_link
            if kind == b"\0" and entry.name.endswith(b"/"):
                entry.type = EntryType.DIRECTORY  # v7 has no other sign; the name may be a long one
            self._begin_data(entry, block, kind, records)
            header.check(entry)
            return entry

    def _check_end(self, block: bytes, described: bool) -> None:
        # Otherwise a tar that was cut there would be taken for a whole one.
        if described:
            raise BadArchiveError("the tar ends behind a header that describes the next entry")
        if block and len(block) < BLOCK:
            raise BadArchiveError("the tar ends in the middle of a header")
        if block and self._stream.take(BLOCK).strip(b"\0"):
            raise BadArchiveError("a single block of zeros stands between entries")

    def _description(self, size_field: bytes) -> bytes:
        size = number(size_field)
        if not 0 <= size <= pax.LIMIT:
            raise BadArchiveError(f"a header of {size} bytes is too long")
        return self._stream.exactly(size + -size % BLOCK)[:size]

    def _set_defaults(self, records: pax.Records) -> None:
        self._defaults |= records
        if sum(len(key) + len(value) for key, value in self._defaults.items()) > pax.GLOBAL_LIMIT:
            raise BadArchiveError("the global headers are too long together")

    def _describe(self, entry: Entry, records: pax.Records) -> None:
        pax.apply(entry, self._defaults | records)
        if records.get(b"size"):
            entry.size = pax.integer(records[b"size"])

    def _begin_data(
        self, entry: Entry, block: bytes, kind: bytes, records: pax.Records | None
    ) -> None:
        here = self._stream.tell()
        if entry.type is not EntryType.FILE:
            if records and sparse.is_pax(records):
                raise BadArchiveError(f"{show(entry.name)} is sparse, but not a regular file")
            entry.size = 0  # as the daemon reads it: the next header follows at once
            self._data_end = self._next_header = here
            return
        size = entry.size
        if size < 0:
            raise BadArchiveError(f"{show(entry.name)} has a negative size")
        entry.stored = size
        self._next_header = here + size + -size % BLOCK
        if kind == b"S":
            sparse.read_old(entry, block, self._stream.exactly)
            self._next_header += self._stream.tell() - here  # the size does not include the map
        elif records and sparse.is_pax(records):
            sparse.read_pax(entry, records, self._stream.exactly)
        self._data_end = self._stream.tell() + entry.stored
