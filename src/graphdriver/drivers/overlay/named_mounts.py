"""An overlay mount for somebody else to make, named as mount(8) takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from graphdriver.driver import Mount
from graphdriver.drivers.overlay.mounts import SETTINGS
from graphdriver.errors import UnsupportedError

_UNKNOWN: Final = "metacopy"
"""BuildKit refuses, or walks, what is mounted with an option that it does not know (its
``util/overlay``). The kernel switches metacopy off by itself where ``redirect_dir`` is given and not
``on`` (fs/overlayfs/params.c)."""

_SAFE: Final = tuple(f"{key}={value}" for key, value in SETTINGS if key != _UNKNOWN)


def name_mount(
    diff: str, work: str, lowers: Sequence[str], *, read_only: bool, kind: str = "overlay"
) -> Mount:
    """Name the mount that shows a layer: a bind mount where it has but one folder.

    Args:
        diff: the layer's own folder.
        work: the overlay's working folder, on the same filesystem.
        lowers: the folders of the layers below, nearest first.
        read_only: nothing will be written to it.
        kind: what mount(8) calls it; the kernel's own gets the settings that make it safe.

    Raises:
        UnsupportedError: a path holds what options cannot tell from their own marks.
    """
    wrong = [folder for folder in (diff, *lowers) if any(mark in folder for mark in ",:\\")]
    if wrong:
        raise UnsupportedError(
            f"{wrong[0]} holds a comma, a colon or a backslash, which mount options cannot name",
            hint="use another root",
        )
    if read_only:
        lowers = (diff, *lowers)
    if not lowers or len(lowers) == 1 == int(read_only):
        return Mount("bind", diff, ("ro" if read_only else "rw", "rbind"))
    upper = () if read_only else (f"workdir={work}", f"upperdir={diff}")
    settings = _SAFE if kind == "overlay" else ()
    return Mount(kind, "overlay", (*settings, *upper, f"lowerdir={':'.join(lowers)}"))
