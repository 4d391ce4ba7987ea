"""Which layer the mounts of a call show.

containerd passes mounts that it got from us back to the diff service. They say what will be written to,
so they must be exactly ours. The layer is found by the upper directory, or, of a mount without one, by
the directories that it shows. Paths that were not given out belong to no layer.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from graphdriver.abilities import Mount


class GivenMounts:
    """The mounts that were given out, by snapshot."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._names: dict[int, str] = {}
        self._layers: dict[str, dict[int, str]] = {}

    def add(self, number: int, layer: str, mounts: Sequence[Mount]) -> None:
        """Note that a snapshot's mounts, which show a layer, were given out."""
        name = _shown(mounts)
        with self._guard:
            self._forget(number)
            self._names[number] = name
            self._layers.setdefault(name, {})[number] = layer

    def forget(self, number: int) -> None:
        """Note that a snapshot is gone, or was committed."""
        with self._guard:
            self._forget(number)

    def _forget(self, number: int) -> None:
        name = self._names.pop(number, None)
        if name is not None:
            del self._layers[name][number]
            if not self._layers[name]:
                del self._layers[name]

    def knows(self, number: int) -> bool:
        """Tell whether mounts of a snapshot were given out by this process."""
        with self._guard:
            return number in self._names

    def layer_of(self, mounts: Sequence[Mount]) -> str:
        """Return the layer that mounts show; ``""`` if they were not given out."""
        with self._guard:
            return next(iter(self._layers.get(_shown(mounts), {}).values()), "")


def _shown(mounts: Sequence[Mount]) -> str:
    """Return what names the layer of mounts; the same for two mounts only if they show the same."""
    if len(mounts) != 1:
        return ""
    (mount,) = mounts
    if mount.type == "bind":
        return f"bind {mount.source}"
    for begin in ("upperdir=", "lowerdir="):
        for option in mount.options:
            if option.startswith(begin):
                return f"{mount.type} {option}"
    return ""
