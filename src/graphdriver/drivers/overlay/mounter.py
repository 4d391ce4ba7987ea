"""An overlay mount as data, and the interface of the mounters.

`graphdriver.drivers.overlay.kernel_mounter` mounts with the kernel's overlayfs,
`graphdriver.drivers.overlay.fuse_mounter` with the program fuse-overlayfs. For containerd nothing
is mounted: `named_mount` returns what containerd passes to mount(8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from graphdriver.abilities import Mount
from graphdriver.errors import UnsupportedError
from graphdriver.layer.overlay.whiteout import Marks
from graphdriver.linux import mount as calls

MAX_LOWERS: Final = 500
"""The most lower directories of a mount (OVL_MAX_STACK in Linux, fs/overlayfs)."""

SETTINGS: Final = (("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"))
"""The overlayfs settings of every mount. With ``redirect_dir`` or ``metacopy``, an attribute in a layer
could show directories and content from elsewhere; with ``index``, several mounts could not share a
lower directory."""

_UNKNOWN_TO_BUILDKIT: Final = "metacopy"
"""BuildKit refuses, or compares file by file, mounts with an option that it does not know (its
``util/overlay``). Without this one metacopy is off too: the kernel turns it off if ``redirect_dir`` is
given and is not ``on`` (fs/overlayfs/params.c)."""

_NAMED_SETTINGS: Final = tuple(
    f"{key}={value}" for key, value in SETTINGS if key != _UNKNOWN_TO_BUILDKIT
)

_MOUNT_FLAGS: Final = {
    "ro": (calls.MOUNT_ATTR_RDONLY, calls.MS_RDONLY),
    "nosuid": (calls.MOUNT_ATTR_NOSUID, calls.MS_NOSUID),
    "nodev": (calls.MOUNT_ATTR_NODEV, calls.MS_NODEV),
    "noexec": (calls.MOUNT_ATTR_NOEXEC, calls.MS_NOEXEC),
    "noatime": (calls.MOUNT_ATTR_NOATIME, calls.MS_NOATIME),
    "nodiratime": (calls.MOUNT_ATTR_NODIRATIME, calls.MS_NODIRATIME),
}
"""Options of the mount, not of the filesystem: the flags for fsmount(2) and for mount(2)."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """One overlay mount; its directories are relative to the home.

    Attributes:
        lowers: the lower directories, nearest first.
        target: where it is mounted.
        upper: the upper directory; ``""`` for a read-only mount.
        work: the work directory; ``""`` for a read-only mount.
        options: in addition to `SETTINGS`, each ``key=value`` or a flag.
    """

    lowers: Sequence[str]
    target: str
    upper: str = ""
    work: str = ""
    options: Sequence[str] = field(default=())

    def settings(
        self, place: Callable[[str], str], *, one_by_one: bool
    ) -> list[tuple[str, str | None]]:
        """Return the settings of the filesystem, in order; a flag has the value None.

        Args:
            place: makes a path from a directory's name.
            one_by_one: one ``lowerdir+`` for each lower directory, instead of one ``lowerdir`` for
                all.
        """
        settings: list[tuple[str, str | None]] = []
        if one_by_one:
            settings += [("lowerdir+", place(one)) for one in self.lowers]
        else:
            settings.append(("lowerdir", ":".join(place(one) for one in self.lowers)))
        if self.upper:
            settings += [("upperdir", place(self.upper)), ("workdir", place(self.work))]
        settings += SETTINGS
        for option in self.options:
            key, equals, value = option.partition("=")
            if key not in _MOUNT_FLAGS:
                settings.append((key, value if equals else None))
        return settings

    def fsmount_flags(self) -> int:
        """Return the flags of the mount for fsmount(2)."""
        return self._flags(0)

    def mount_flags(self) -> int:
        """Return the flags of the mount for mount(2)."""
        return self._flags(1)

    def _flags(self, which: int) -> int:
        flags = 0
        for option in self.options:
            flags |= _MOUNT_FLAGS.get(option, (0, 0))[which]
        return flags


class Mounter(Protocol):
    """A mounter of overlays below a home."""

    @property
    def marks(self) -> Marks:
        """The form of the marks for deletions and opaque directories in upper directories."""
        ...

    def mount(self, overlay: Overlay) -> None:
        """Mount an overlay on its target, which exists.

        Raises:
            GraphDriverError: the mount failed; the text says why.
        """
        ...

    def status(self) -> Sequence[tuple[str, str]]:
        """Return lines for ``docker info``."""
        ...

    def end(self) -> None:
        """Remove the mounter's files outside of the home; called when no layer is mounted any more."""
        return


def named_mount(
    diff: str, work: str, lowers: Sequence[str], *, read_only: bool, kind: str = "overlay"
) -> Mount:
    """Return a layer's mount: a bind mount if the layer is one directory, else an overlay.

    Args:
        diff: the layer's own directory.
        work: the work directory, on the same filesystem.
        lowers: the directories of the layers below, nearest first.
        read_only: whether nothing will be written to it.
        kind: the filesystem type for mount(8); ``overlay`` gets the settings of `SETTINGS`.

    Raises:
        UnsupportedError: a path holds a character that separates options or directories.
    """
    wrong = [path for path in (diff, *lowers) if any(mark in path for mark in ",:\\")]
    if wrong:
        raise UnsupportedError(
            f"{wrong[0]} holds a comma, a colon or a backslash, which mount options cannot hold",
            hint="use another root",
        )
    if read_only:
        lowers = (diff, *lowers)
    # overlayfs without an upper directory refuses a single lower directory.
    if not lowers or len(lowers) == 1 == int(read_only):
        return Mount("bind", diff, ("ro" if read_only else "rw", "rbind"))
    upper = () if read_only else (f"workdir={work}", f"upperdir={diff}")
    settings = _NAMED_SETTINGS if kind == "overlay" else ()
    return Mount(kind, "overlay", (*settings, *upper, f"lowerdir={':'.join(lowers)}"))
