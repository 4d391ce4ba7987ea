"""A driver that returns each layer's tar unchanged: it keeps the original bytes with the layer.

So it may promise exact diffs (`Capabilities.reproduces_exact_diffs`), and at save and push the daemon
asks it for a Diff instead of rebuilding the tar from the layer's files. Without this an image with
sparse files in its layers cannot be saved again.

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
        os.rename(tar.name, self.tar(id, parent))  # complete; synced before the response
        return size

    def diff(self, id: str, parent: str) -> ClosableStream:
        if os.path.exists(self.tar(id, parent)):
            return open(self.tar(id, parent), "rb")
        return super().diff(id, parent)  # a container's layer, or one against another ancestor

    def tar(self, id: str, parent: str) -> str:
        directory = os.path.dirname(self.get(id, ""))  # vfs: HOME/ID, removed with the layer
        return os.path.join(directory, f"tar-upon-{parent}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} NAME")
    serve_unix(KeepsTars(), sys.argv[1])
