"""Faults between Diff and ApplyDiff, and in the dialects of tar."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

from graphdriver.conformance.plugin import tars
from graphdriver.driver import Capabilities, ClosableStream, ReadStream
from graphdriver.errors import GraphDriverError
from tests.conformance.plugin.faults.fault import Broken, caught_by
from tests.conformance.plugin.faults.tampering import (
    Entry,
    KnowsParents,
    TarComes,
    TarGoes,
    is_whiteout,
    whole,
)


@caught_by("round-trips/whole-tree")
class DiffsHaveNoDirectories(TarGoes):
    """A Diff leaves directories out."""

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if entry.isdir() else entry


@caught_by("round-trips/all-kinds-of-changes")
class DiffsDeleteNothing(TarGoes):
    """A Diff has no whiteouts."""

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if is_whiteout(entry) else entry


@caught_by("round-trips/same-bytes-every-time")
class DiffsAreNumbered(TarGoes):
    """A Diff says how many there were before."""

    count = 0

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        self.count += 1
        entry.uname = str(self.count)
        return entry


@caught_by("round-trips/same-bytes-of-a-copy")
class DiffsNameTheirLayer(TarGoes):
    """A Diff holds the layer's ID."""

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        entry.uname = self.asked[0][:16]
        return entry


@caught_by("round-trips/diff-against-any-ancestor")
class DiffsAreAgainstTheParent(KnowsParents):
    """A Diff against any layer is the one against the direct parent."""

    def diff(self, id: str, parent: str) -> ClosableStream:
        return super().diff(id, self.parents[id] if parent else "")


@caught_by("round-trips/diff-against-nothing")
class NothingIsTheParent(KnowsParents):
    """A Diff against nothing is the one against the parent."""

    def diff(self, id: str, parent: str) -> ClosableStream:
        return super().diff(id, parent or self.parents[id])


@caught_by("round-trips/unchanged-layer")
class SizesAreWholeBlocks(Broken):
    """DiffSize counts a block for the layer itself."""

    def diff_size(self, id: str, parent: str) -> int:
        return super().diff_size(id, parent) + 4096


@caught_by("round-trips/empty-streams-are-empty-layers")
class EmptyTarsAreRefused(Broken):
    """A tar of no bytes is an error."""

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        data = whole(archive)
        if not data:
            raise GraphDriverError("unexpected end of the tar")
        return super().apply_diff(id, parent, io.BytesIO(data))


class _Holding(io.BytesIO):
    def __init__(self, stream: ClosableStream, held: set[str], id: str) -> None:
        super().__init__(whole(stream))
        stream.close()
        self._held = held
        self._id = id
        held.add(id)

    def close(self) -> None:
        if not self.closed and not self.read(1):
            self._held.discard(self._id)
        super().close()


@caught_by("round-trips/diff-can-be-left-unread")
class UnreadDiffsHoldTheirLayer(Broken):
    """A layer whose Diff was not read to its end cannot be removed."""

    def __init__(self) -> None:
        super().__init__()
        self._held: set[str] = set()

    def diff(self, id: str, parent: str) -> ClosableStream:
        return _Holding(super().diff(id, parent), self._held, id)

    def remove(self, id: str) -> None:
        if id in self._held:
            raise GraphDriverError("device or resource busy")
        super().remove(id)


@caught_by("round-trips/exact-diffs-are-exact")
class PromisesExactDiffs(Broken):
    """It says ReproducesExactDiffs, and does not."""

    def capabilities(self) -> Capabilities:
        return Capabilities(reproduces_exact_diffs=True)


@caught_by("dialects/ustar")
class PrefixesAreUnknown(TarComes):
    """The first part of a ustar's name is not read."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        yield entry.with_field(345, bytes(155))


@caught_by("dialects/gnu-long-names")
class LongTargetsAreUnknown(TarComes):
    """GNU's long targets of links are not read."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if entry.type != b"K":
            yield entry


@caught_by("dialects/pax-names")
class PaxTargetsAreUnknown(TarComes):
    """PAX's long targets of links are not read."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if entry.type != b"x" or b"linkpath" not in entry.data:
            yield entry


@caught_by("dialects/large-numbers")
class BinaryNumbersAreUnknown(TarComes):
    """Numbers in base-256 are read as nought."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if entry.header[108] & 0x80:
            entry = entry.with_field(108, b"0000000\0")
        yield entry


@caught_by("dialects/pax-size-wins")
class PaxSizesAreUnknown(TarComes):
    """Sizes in PAX headers are not read."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if entry.type != b"x":
            yield entry


@caught_by("dialects/pax-for-all")
class GlobalHeadersAreFiles(TarComes):
    """A global PAX header becomes a file."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if entry.type == b"g":
            entry = entry.with_field(156, b"0").with_field(0, b"pax_global_header\0")
        yield entry


@caught_by("dialects/sparse-files")
class HolesAreUnknown(TarComes):
    """Sparse files are read as if they were whole."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if entry.type == b"S":
            entry = entry.with_field(156, b"0")
        if entry.type != b"x":
            yield entry


@caught_by("dialects/entries-in-any-order")
class LateDirectoriesAreIgnored(TarComes):
    """A directory's entry that comes behind what is in it is not read."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if entry.type != b"5" or not any(name.startswith(entry.name + "/") for name in self.seen):
            yield entry


@caught_by("dialects/later-of-two-wins")
class FirstOfTwoWins(TarComes):
    """Of two entries of one name the first counts."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if entry.name not in self.seen:
            yield entry


@caught_by("dialects/replaces-the-layer-below")
class DirectoriesReplaceDirectories(TarComes):
    """A directory over a directory empties it."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        yield entry
        if entry.type == b"5":
            yield tars.whiteout(entry.name.encode() + b"/.wh..wh..opq")


@caught_by("dialects/names-are-spelt-in-many-ways")
class RootEntryIsIgnored(TarComes):
    """The root directory's own entry is not read."""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if entry.name != ".":
            yield entry
