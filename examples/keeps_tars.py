"""A driver that gives back each layer's tar as it came: it keeps the very bytes beside the layer.

So it may promise what `Capabilities.reproduces_exact_diffs` says, and the daemon asks it for a Diff at
save and push instead of putting the tar together from the layer's files: only so can an image be
saved again whose layers hold sparse files.

    python examples/keeps_tars.py keeps-tars
    dockerd --experimental -s keeps-tars
"""

import os
import sys

from graphdriver import Capabilities, ClosableStream, NaiveDiffDriver, ReadStream, serve_unix
from graphdriver.drivers.vfs.driver import VfsDriver


class KeepsTars(NaiveDiffDriver):
    def __init__(self) -> None:
        super().__init__(VfsDriver())

    def capabilities(self) -> Capabilities:
        return Capabilities(reproduces_exact_diffs=True)

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        with open(self.tar(id, parent) + ".part", "w+b") as tar:
            while piece := archive.read(1 << 20):
                tar.write(piece)
            tar.seek(0)
            size = super().apply_diff(id, parent, tar)
        os.rename(tar.name, self.tar(id, parent))  # whole, and synced before the daemon hears of it
        return size

    def diff(self, id: str, parent: str) -> ClosableStream:
        if os.path.exists(self.tar(id, parent)):
            return open(self.tar(id, parent), "rb")
        return super().diff(id, parent)  # a container's layer, or one against another ancestor

    def tar(self, id: str, parent: str) -> str:
        folder = os.path.dirname(self.get(id, ""))  # of vfs: HOME/ID, which goes with the layer
        return os.path.join(folder, f"tar-upon-{parent}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} NAME")
    serve_unix(KeepsTars(), sys.argv[1])
