"""A complete storage driver: every layer is a directory, copied from its parent with GNU cp.

As root: `python examples/plain_folders.py NAME`, then `dockerd --experimental -s NAME`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

from graphdriver import IDMap, LayerNotFoundError, ProtoDriver, host_root, serve_unix


class PlainFolders(ProtoDriver):
    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        self.home = home
        self.root = host_root(uid_maps), host_root(gid_maps)

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        source = self.get(parent, "") if parent else ""
        os.mkdir(self._path(id))
        os.chmod(self._path(id), 0o755)  # independent of the umask
        os.chown(self._path(id), *self.root)
        if parent:
            subprocess.run(
                ["cp", "-a", "--reflink=auto", f"{source}/.", self._path(id)], check=True
            )

    def remove(self, id: str) -> None:
        if self.exists(id):
            shutil.rmtree(self._path(id))

    def get(self, id: str, mount_label: str) -> str:
        if not self.exists(id):
            raise LayerNotFoundError("the layer does not exist")
        return self._path(id)

    def put(self, id: str) -> None:
        self.get(id, "")

    def exists(self, id: str) -> bool:
        return os.path.isdir(self._path(id))

    def _path(self, id: str) -> str:
        return os.path.join(self.home, id)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} NAME")
    serve_unix(PlainFolders(), sys.argv[1])
