"""A driver that keeps nothing: how long a daemon's own work takes, with any driver."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from graphdriver import Change, ClosableStream, Driver, IDMap, ReadStream, UnsupportedError

_AT_ONCE = 1 << 20


class KeepsNothing(Driver):
    """Layers without content; an image can be loaded and removed, and not be run."""

    def init(
        self,
        home: str,
        options: Sequence[str],
        uid_maps: Sequence[IDMap],
        gid_maps: Sequence[IDMap],
    ) -> None:
        """Take up a home."""
        self._empty = os.path.join(home, "empty")
        self._layers: set[str] = set()
        os.makedirs(self._empty, exist_ok=True)

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        """Note a layer."""
        self._layers.add(id)

    def remove(self, id: str) -> None:
        """Forget a layer."""
        self._layers.discard(id)

    def exists(self, id: str) -> bool:
        """Tell whether a layer was noted."""
        return id in self._layers

    def get(self, id: str, mount_label: str) -> str:
        """Return an empty directory."""
        return self._empty

    def put(self, id: str) -> None:
        """Do nothing."""

    def apply_diff(self, id: str, parent: str, archive: ReadStream) -> int:
        """Read a tar to its end."""
        size = 0
        while piece := archive.read(_AT_ONCE):
            size += len(piece)
        return size

    def diff(self, id: str, parent: str) -> ClosableStream:
        """Refuse: nothing is kept."""
        raise UnsupportedError("nothing is kept")

    def changes(self, id: str, parent: str) -> Iterable[Change]:
        """Return no changes."""
        return ()

    def diff_size(self, id: str, parent: str) -> int:
        """Return 0."""
        return 0
