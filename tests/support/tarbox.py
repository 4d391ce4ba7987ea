"""A real driver for tests of the wire: it keeps each layer's tar unchanged, in a directory."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping, Sequence

from graphdriver import Capabilities, Change, ChangeKind, ClosableStream, Driver, IDMap, ReadStream
from graphdriver.errors import LayerExistsError, LayerNotFoundError


class TarBox(Driver):
    """Keeps tars, and remembers every call in ``calls``.

    While ``pause`` is cleared, Get and Create stay inside; ``given`` counts the bytes of all Diffs.
    """

    def __init__(self) -> None:
        self.home = ""
        self.exact = True
        self.calls: list[tuple[str, ...]] = []
        self.held: dict[str, int] = {}
        self.open_streams = 0
        self.given = 0
        self.inits: list[tuple[str, list[str], list[IDMap]]] = []
        self.pause = threading.Event()
        self.pause.set()
        self.inside: dict[str, int] = {}
        self.overlaps: list[str] = []

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        self.home = home
        self.inits.append((home, list(options), list(uid_maps)))

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        self.calls.append(("create", id, parent))
        self._stay(id)
        if self.exists(id):
            raise LayerExistsError("the layer exists")
        if parent and not self.exists(parent):
            raise LayerNotFoundError(f"parent {parent} does not exist")
        os.mkdir(self._path(id))

    def remove(self, id: str) -> None:
        self.calls.append(("remove", id))
        shutil.rmtree(self._path(id), ignore_errors=True)

    def get(self, id: str, mount_label: str) -> str:
        self._stay(id)
        if not self.exists(id):
            raise LayerNotFoundError("the layer does not exist")
        self.held[id] = self.held.get(id, 0) + 1
        return self._path(id)

    def _stay(self, id: str) -> None:
        """Be in a call for a layer, for as long as the test wants."""
        self.inside[id] = self.inside.get(id, 0) + 1
        if self.inside[id] > 1:
            self.overlaps.append(id)
        assert self.pause.wait(60)
        self.inside[id] -= 1

    def put(self, id: str) -> None:
        self.calls.append(("put", id))
        self.held[id] -= 1

    def exists(self, id: str) -> bool:
        return os.path.isdir(self._path(id))

    def status(self) -> Sequence[tuple[str, str]]:
        return (("Z", "first"), ("A", "second"))

    def get_metadata(self, id: str) -> Mapping[str, str]:
        return {"Tar": self._path(id)}

    def diff(self, id: str, parent: str) -> ClosableStream:
        if not self.exists(id):
            raise LayerNotFoundError("the layer does not exist")
        return _Tar(self, os.path.join(self._path(id), "tar"))

    def changes(self, id: str, parent: str) -> Sequence[Change]:
        return [Change("/a\udcff", ChangeKind.ADDED), Change("/b", ChangeKind.DELETED)]

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        self.calls.append(("apply_diff", id, parent))
        size = 0
        with open(os.path.join(self._path(id), "tar"), "wb") as file:
            while piece := archive.read(1 << 20):
                size += file.write(piece)
        return size

    def diff_size(self, id: str, parent: str) -> int:
        return os.path.getsize(os.path.join(self._path(id), "tar"))

    def capabilities(self) -> Capabilities:
        return Capabilities(reproduces_exact_diffs=self.exact)

    def _path(self, id: str) -> str:
        return os.path.join(self.home, id)


class _Tar:
    """Reads a tar; breaks where the file ``break`` beside it says, and counts itself out."""

    def __init__(self, box: TarBox, path: str) -> None:
        self._box = box
        try:
            with open(os.path.join(os.path.dirname(path), "break")) as file:
                self._left = int(file.read())
        except FileNotFoundError:
            self._left = -1
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close
        box.open_streams += 1

    def read(self, n: int, /) -> bytes:
        if self._left == 0:
            raise OSError(5, "Input/output error", "the tar")
        piece = self._file.read(n if self._left < 0 else min(n, self._left))
        if self._left > 0:
            self._left -= len(piece)
        self._box.given += len(piece)
        return piece

    def close(self) -> None:
        self._file.close()
        self._box.open_streams -= 1
