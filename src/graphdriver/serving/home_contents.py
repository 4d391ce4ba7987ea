"""What is in a directory that is to be a home: nothing, layers of ours, or files of others."""

from __future__ import annotations

import os
from typing import Final

from graphdriver.errors import UnsupportedError

IDENTITY: Final = ".graphdriver/home.json"
"""The file by which a home is known to be one."""

_OURS: Final = frozenset(
    {
        ".graphdriver",
        ".staging",
        ".trash",
        ".reserve",
        ".probed",
        ".overlay-probe",
        ".btrfs-probe",
        "lost+found",
    }
)
"""What may be in a home before it is one: left by a kill or a look at it, or made by mkfs(8)."""

_KNOWN: Final = (
    ({"image", "volumes"}, "the data root of a Docker daemon"),
    ({"l"}, "the directory of Docker's own overlay2 or fuse-overlayfs driver"),
    ({"subvolumes"}, "the directory of Docker's own btrfs driver"),
    ({"dir"}, "the directory of Docker's own vfs driver"),
    ({"metadata.db", "snapshots"}, "the root of one of containerd's own snapshotters"),
    ({"io.containerd.content.v1.content"}, "the root of a containerd"),
)
"""Names by which the directories of others are known."""

_SHOWN: Final = 3


def refuse_others(path: str) -> None:
    """Refuse a directory that is not empty and was never a home; nothing is written to it.

    Raises:
        UnsupportedError: it is such; the text says what it is.
    """
    if not os.path.isdir(path) or os.path.lexists(os.path.join(path, IDENTITY)):
        return
    names = sorted(set(os.listdir(path)) - _OURS)
    if names:
        raise UnsupportedError(
            f"{path} cannot be the home: it is {_described(names)}, and has no {IDENTITY}",
            hint="choose another home; the option adopt=yes takes it over with everything in it",
        )


def _described(names: list[str]) -> str:
    for known, what in _KNOWN:
        if known <= set(names):
            return what
    some = ", ".join(map(repr, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")
    return f"a directory that holds {some}"
