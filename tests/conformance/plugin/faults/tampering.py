"""Where faults in what layers hold are planted: a tar that comes, a tree, a tar that goes."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from graphdriver.conformance.plugin import tars
from graphdriver.driver import ClosableStream, ReadStream, mounted
from graphdriver.errors import GraphDriverError
from tests.conformance.plugin.faults.fault import Broken


def whole(stream: ReadStream) -> bytes:
    return b"".join(iter(lambda: stream.read(1 << 20), b""))


class Entry:
    """An entry of a tar as it came: its header's block, and its data with the padding."""

    def __init__(self, header: bytes, data: bytes) -> None:
        self.header = header
        self.data = data

    @property
    def type(self) -> bytes:
        return self.header[156:157]

    @property
    def name(self) -> str:
        return os.fsdecode(self.header[:100].rstrip(b"\0")).strip("/")

    @property
    def link(self) -> str:
        return os.fsdecode(self.header[157:257].rstrip(b"\0"))

    @property
    def uid(self) -> int:
        return tarfile.nti(self.header[108:116])  # type: ignore[attr-defined, no-any-return]

    def with_field(self, at: int, value: bytes) -> Entry:
        block = self.header[:at] + value + self.header[at + len(value) :]
        return Entry(tars.checked(block), self.data)


def entries_of(data: bytes) -> Iterator[Entry]:
    """Yield what an honest tar holds; GNU's long names and PAX headers are entries of their own."""
    at = 0
    size_wins = None
    while len(header := data[at : at + 512]) == 512 and header.strip(b"\0"):
        size = tarfile.nti(header[124:136])  # type: ignore[attr-defined]
        if header[156:157] == b"x":
            said = data[at + 512 : at + 512 + size]
            found = [line for line in said.split(b"\n") if b" size=" in line]
            size_wins = int(found[0].partition(b"=")[2]) if found else None
        elif header[156:157] not in b"LKg":
            size = size if size_wins is None else size_wins
            size_wins = None
        end = at + 512 + size + -size % 512
        yield Entry(header, data[at + 512 : end])
        at = end


class TarComes(Broken):
    """Reads another tar than came: `read` says what becomes of an entry."""

    parent = ""

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        raise NotImplementedError

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        data = whole(archive)
        self.parent = parent
        self.seen: set[str] = set()
        pieces = []
        for entry in entries_of(data):
            for one in self.read(entry):
                pieces.append(one if isinstance(one, bytes) else one.header + one.data)
            self.seen.add(entry.name)
        self.whole.apply_diff(id, parent, io.BytesIO(b"".join(pieces) + bytes(1024)))
        return sum(entry.size for entry in tarfile.open(fileobj=io.BytesIO(data)) if entry.isreg())


class Refuses(TarComes):
    """Refuses a tar for an entry that it should take."""

    def is_refused(self, entry: Entry) -> bool:
        raise NotImplementedError

    def read(self, entry: Entry) -> Iterator[Entry | bytes]:
        if self.is_refused(entry):
            raise GraphDriverError("this tar is refused")
        yield entry


class TreeSpoiled(Broken):
    """Changes a layer's tree after it was applied: `spoil` does."""

    def spoil(self, root: Path, names: Mapping[str, tarfile.TarInfo], parent: str) -> None:
        raise NotImplementedError

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        data = whole(archive)
        size = super().apply_diff(id, parent, io.BytesIO(data))
        with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
            names = {entry.name.strip("/"): entry for entry in tar}
        with mounted(self.whole, id) as root:
            self.spoil(Path(root), names, parent)
        return size


def every(root: Path) -> list[Path]:
    """Return all that is in a tree, what is in a directory before the directory."""
    return sorted(root.rglob("*"), reverse=True)


class TarGoes(Broken):
    """Answers another Diff: `write` says what becomes of an entry; None leaves it out."""

    def write(self, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        raise NotImplementedError

    def diff(self, id: str, parent: str) -> ClosableStream:
        stream = self.whole.diff(id, parent)
        data = whole(stream)
        stream.close()
        self.asked = id, parent
        return repacked(data, self.write)


def repacked(
    data: bytes, write: Callable[[tarfile.TarInfo], tarfile.TarInfo | None]
) -> ClosableStream:
    """Pack a tar anew, by Python's tarfile."""
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as came,
        tarfile.open(
            fileobj=made, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape"
        ) as goes,
    ):
        for entry in came.getmembers():
            content = came.extractfile(entry) if entry.isreg() else None
            if written := write(entry):
                goes.addfile(written, content if written.isreg() else None)
    return io.BytesIO(made.getvalue())


def is_whiteout(entry: tarfile.TarInfo) -> bool:
    return os.path.basename(entry.name).startswith(".wh.")


class KnowsParents(Broken):
    """Remembers upon what a layer was made, and how deep."""

    def __init__(self) -> None:
        super().__init__()
        self.parents: dict[str, str] = {}

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        self.parents[id] = parent
        super().create(id, parent, mount_label, storage_opt)

    def depth(self, id: str) -> int:
        return 1 + self.depth(self.parents[id]) if self.parents.get(id) else 1
