"""A driver that gives back each layer's tar as it came: it stores the very bytes beside the layer.

So it may promise what `Capabilities.reproduces_exact_diffs` says, and the daemon asks it for a Diff at
save and push instead of putting the tar together from the layer's files: only so can an image be
saved again whose layers hold sparse files.

    python examples/keeps_tars.py keeps-tars
    dockerd --experimental -s keeps-tars
"""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from graphdriver import (
    Capabilities,
    ClosableStream,
    IDMap,
    NaiveDiffDriver,
    ReadStream,
    serve_unix,
)
from graphdriver.drivers.vfs import VfsDriver


class KeepsTars(NaiveDiffDriver):
    def __init__(self) -> None:
        super().__init__(VfsDriver())

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        super().init(home, options, uid_maps, gid_maps)
        self.tars = os.path.join(home, ".tars")

    def capabilities(self) -> Capabilities:
        return Capabilities(reproduces_exact_diffs=True)

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        os.makedirs(os.path.join(self.tars, id))
        with open(self.tar(id, parent), "xb") as kept:
            return super().apply_diff(id, parent, Tee(archive, kept))

    def diff(self, id: str, parent: str) -> ClosableStream:
        if os.path.exists(self.tar(id, parent)):
            return open(self.tar(id, parent), "rb")
        return super().diff(id, parent)  # a container's layer, or one against another ancestor

    def remove(self, id: str) -> None:
        shutil.rmtree(os.path.join(self.tars, id), ignore_errors=True)
        super().remove(id)

    def tar(self, id: str, parent: str) -> str:
        return os.path.join(self.tars, id, f"upon-{parent}")


@dataclass
class Tee:
    """A stream that keeps what is read from it."""

    archive: ReadStream
    kept: BinaryIO

    def read(self, n: int, /) -> bytes:
        piece = self.archive.read(n)
        self.kept.write(piece)
        return piece


if __name__ == "__main__":
    serve_unix(KeepsTars(), sys.argv[1])
