"""A check that a directory holds no files of others before it becomes a home."""

from __future__ import annotations

import os
from typing import Final

from graphdriver.errors import UnsupportedError

OWN: Final = ".graphdriver"
"""The framework's directory in a home (`graphdriver.serving.home`)."""

IDENTITY: Final = f"{OWN}/home.json"
"""The file that every home has, and no other directory."""

_OURS: Final = frozenset(
    {
        OWN,
        ".staging",
        ".trash",
        ".reserve",
        ".probed",
        ".overlay-probe",
        ".btrfs-probe",
        "lost+found",
    }
)
"""Names that a directory may have before it is a home: left by a kill or a probe, or by mkfs(8)."""

_KNOWN: Final = (
    ({"image", "volumes"}, "the data root of a Docker daemon"),
    ({"l"}, "the directory of Docker's own overlay2 or fuse-overlayfs driver"),
    ({"subvolumes"}, "the directory of Docker's own btrfs driver"),
    ({"dir"}, "the directory of Docker's own vfs driver"),
    ({"metadata.db", "snapshots"}, "the root of one of containerd's own snapshotters"),
    ({"io.containerd.content.v1.content"}, "the root of a containerd"),
)
"""Names by which directories of other programs are recognised."""

_SHOWN: Final = 3


def refuse_others(path: str) -> None:
    """Refuse a directory that is not empty and was never a home; write nothing to it.

    Raises:
        UnsupportedError: the directory holds other files; the text says which.
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
