"""Whether layers can be mounted upon each other in a place: found out by doing it.

Filesystems differ in what they can be asked for, and kernels in what they answer; so two small layers
are made and mounted, in a folder that is gone again afterwards. A process that is killed leaves it
there, with its mount; the next one that looks clears it away. So that it can, whatever becomes of the
home's path meanwhile, the folder is shown in another place, and mounted upon there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
from collections.abc import Iterator
from typing import Final

from graphdriver.drivers.overlay.aliases import Shown
from graphdriver.drivers.overlay.mounts import KernelMounter, Overlay
from graphdriver.drivers.overlay.options import HomeOptions, LayerOptions
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.files.path_lock import locked
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.linux import mount as calls
from graphdriver.linux import xattr
from graphdriver.linux.filesystem import tells_types
from graphdriver.linux.mountinfo import fstype_of

_FOLDER: Final = ".overlay-probe"
_ELSEWHERE: Final = "set the daemon's data-root to another filesystem, or use vfs"


def examine(home: str, options: HomeOptions = HomeOptions()) -> str:  # noqa: B008 - it is frozen
    """See whether overlays can be made in a folder, by making one.

    Args:
        home: it exists.
        options: what is to be done with it.

    Returns:
        The name of the filesystem.

    Raises:
        UnsupportedError: they cannot; the text says what is missing and what to do.
        OSError: nothing can be written there.
    """
    expect_overlayfs()
    with trial(home) as (folder, kind):
        _examine(home, folder, kind, options)
    return kind


def expect_overlayfs() -> None:
    """See whether this kernel has overlayfs.

    Raises:
        UnsupportedError: it has none.
    """
    if not calls.knows("overlay"):
        raise UnsupportedError(
            "overlay2: this kernel has no overlay filesystem",
            hint="load it (modprobe overlay), or use vfs",
        )


@contextlib.contextmanager
def trial(home: str) -> Iterator[tuple[str, str]]:
    """Lay out folders to be mounted, for the length of a ``with`` block, and end the mount.

    Args:
        home: where.

    Yields:
        The path of a folder in which are ``lower`` (with a ``folder`` in it), ``upper``, ``work`` and
        ``merged``; and the name of the filesystem.

    Raises:
        OSError: nothing can be written there.
    """
    folder = os.path.join(home, _FOLDER)
    with locked(home):
        shown = Shown(folder)
        fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _clear(shown, fd)
            try:
                for name in ("", "lower", "upper", "work", "merged", "lower/folder"):
                    os.mkdir(os.path.join(folder, name), 0o700)
                shown.show()
                yield shown.path, fstype_of(fd)
            finally:
                _clear(shown, fd)
        finally:
            os.close(fd)


def _examine(home: str, folder: str, kind: str, options: HomeOptions) -> None:
    if not tells_types(f"{folder}/lower"):
        raise UnsupportedError(
            f"overlay2: {home} is on {kind} that does not tell file types with their names (d_type)",
            hint=f"make it anew (mkfs.xfs -n ftype=1, mkfs.ext4 -O filetype), or {_ELSEWHERE}",
        )
    mounter = KernelMounter(folder)
    try:
        xattr.set(os.fsencode(f"{folder}/upper"), mounter.marks.prefix + b"probe", b"y")
    except OSError as error:
        raise UnsupportedError(
            f"overlay2: {home} is on {kind}, which cannot keep overlayfs's extended attributes"
            f" ({error.strerror})",
            hint=_ELSEWHERE,
        ) from error
    overlay = Overlay(["lower"], "merged", "upper", "work")
    try:
        mounter.mount(overlay)
    except GraphDriverError as error:
        raise UnsupportedError(
            f"overlay2: {home} is on {kind}, which cannot hold upper layers ({error.problem})",
            hint=_ELSEWHERE,
        ) from error
    os.rmdir(f"{folder}/merged/folder")
    if not stat.S_ISCHR(os.lstat(f"{folder}/upper/folder").st_mode):
        raise UnsupportedError(
            f"overlay2: {home} is on {kind}, which keeps no whiteouts", hint=_ELSEWHERE
        )
    if options.size:
        LayerOptions(options.size).limit(folder, ("upper", "work"))
    if options.mount_options:
        calls.unmount(f"{folder}/merged", calls.MNT_DETACH)
        try:
            mounter.mount(dataclasses.replace(overlay, options=options.mount_options))
        except GraphDriverError as error:
            raise UnsupportedError(
                f"overlay2: nothing can be mounted with mountopt={','.join(options.mount_options)}"
                f" ({error.problem})",
                hint="see mount(8) and the kernel's documentation of overlayfs",
            ) from error


def _clear(shown: Shown, home_fd: int) -> None:
    """Remove what is there of a probe."""
    Shown(shown.path).end()  # of a mounter that shows it once more, and was killed
    shown.end()
    remove_tree(home_fd, os.fsencode(_FOLDER))
