"""Probes: tests whether layers can be mounted in a directory, by mounting two small ones there.

A test mount is the only sure way: filesystems support the needs of overlayfs differently, and kernels
report them differently. The two layers are made in ``.overlay-probe`` and removed afterwards. They are
mounted in an alias of that directory (`graphdriver.drivers.overlay.aliases`), so that after a kill the
next probe can unmount and remove them, even if something was mounted on the home's path meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Final

from graphdriver.drivers.overlay.aliases import DirectoryAlias
from graphdriver.drivers.overlay.fuse_mounter import FuseMounter
from graphdriver.drivers.overlay.kernel_mounter import KernelMounter
from graphdriver.drivers.overlay.mounter import Overlay
from graphdriver.drivers.overlay.options import HomeOptions
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.files.path_lock import locked
from graphdriver.layer.overlay.whiteout import is_whiteout
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.linux import mount as calls
from graphdriver.linux import xattr
from graphdriver.linux.filesystem import tells_types
from graphdriver.linux.mountinfo import fstype_of
from graphdriver.linux.project_quota import limit_tree

_PROBE: Final = ".overlay-probe"
_OVERLAY: Final = Overlay(["lower"], "merged", "upper", "work")
_ELSEWHERE: Final = "set the daemon's data-root to another filesystem, or use vfs"


@contextlib.contextmanager
def trial(home: str) -> Iterator[tuple[str, str]]:
    """Make the directories of two layers for a ``with`` block; then unmount and remove them.

    Args:
        home: where.

    Yields:
        The path of a directory that holds ``lower`` (with a directory ``deleted`` in it),
        ``upper``, ``work`` and ``merged``; and the name of the filesystem.

    Raises:
        UnsupportedError: this process may not mount.
        OSError: nothing can be written there.
    """
    directory = os.path.join(home, _PROBE)
    with locked(home):  # two probes of one home would remove each other's directories
        alias = DirectoryAlias(directory)
        fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _clear(alias, fd)
            try:
                for name in ("", "lower", "upper", "work", "merged", "lower/deleted"):
                    os.mkdir(os.path.join(directory, name), 0o700)
                _mount(alias)
                yield alias.path, fstype_of(fd)
            finally:
                _clear(alias, fd)
        finally:
            os.close(fd)


def _mount(alias: DirectoryAlias) -> None:
    try:
        alias.mount()
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            raise
        raise UnsupportedError(
            f"this process may not mount ({error.strerror})",
            hint="use vfs; or run it as root, and a container with --privileged",
        ) from error


def _clear(alias: DirectoryAlias, home_fd: int) -> None:
    """Remove a probe's mounts and directories, if any."""
    DirectoryAlias(alias.path).unmount()  # the FUSE mounter's alias of our alias, if it was killed
    alias.unmount()
    remove_tree(home_fd, os.fsencode(_PROBE))


# --- overlayfs ------------------------------------------------------------------------------------


def expect_overlayfs(driver: str = "overlay2") -> None:
    """Check that this kernel has overlayfs.

    Args:
        driver: the name of the driver that needs it.

    Raises:
        UnsupportedError: it does not.
    """
    if not calls.knows("overlay"):
        raise UnsupportedError(
            f"{driver}: this kernel has no overlay filesystem",
            hint="load it (modprobe overlay), or use vfs",
        )


def probe_overlayfs(
    home: str,
    options: HomeOptions = HomeOptions(),  # noqa: B008 - frozen
    driver: str = "overlay2",
) -> str:
    """Find out whether the kernel can mount layers in a directory, with these options.

    Args:
        home: the directory; it exists.
        options: the home's options.
        driver: the name of the driver that needs it.

    Returns:
        The name of the filesystem.

    Raises:
        UnsupportedError: it cannot; the text says what is missing and what to do.
        OSError: nothing can be written there.
    """
    expect_overlayfs(driver)
    with trial(home) as (directory, kind):
        _try_overlayfs(home, directory, kind, options, driver)
    return kind


def _try_overlayfs(home: str, directory: str, kind: str, options: HomeOptions, driver: str) -> None:
    # Without d_type overlayfs does not recognise whiteouts in listings, and deleted files appear there.
    if not tells_types(f"{directory}/lower"):
        raise UnsupportedError(
            f"{driver}: {home} is on {kind} without file types in directories (d_type)",
            hint=f"make it again (mkfs.xfs -n ftype=1, mkfs.ext4 -O filetype), or {_ELSEWHERE}",
        )
    mounter = KernelMounter(directory)
    try:
        xattr.set(os.fsencode(f"{directory}/upper"), mounter.marks.prefix + b"probe", b"y")
    except OSError as error:
        raise UnsupportedError(
            f"{driver}: {home} is on {kind}, which cannot keep overlayfs's extended attributes"
            f" ({error.strerror})",
            hint=_ELSEWHERE,
        ) from error
    try:
        mounter.mount(_OVERLAY)
    except GraphDriverError as error:
        raise UnsupportedError(
            f"{driver}: {home} is on {kind}, which cannot hold upper directories ({error.problem})",
            hint=_ELSEWHERE,
        ) from error
    os.rmdir(f"{directory}/merged/deleted")
    if not stat.S_ISCHR(os.lstat(f"{directory}/upper/deleted").st_mode):
        raise UnsupportedError(
            f"{driver}: {home} is on {kind}, which keeps no whiteouts", hint=_ELSEWHERE
        )
    if options.size:
        limit_tree([f"{directory}/upper", f"{directory}/work"], options.size)
    if options.mount_options:
        calls.unmount(f"{directory}/merged", calls.MNT_DETACH)
        try:
            mounter.mount(dataclasses.replace(_OVERLAY, options=options.mount_options))
        except GraphDriverError as error:
            raise UnsupportedError(
                f"{driver}: mounting with mountopt={','.join(options.mount_options)} fails"
                f" ({error.problem})",
                hint="see mount(8) and the kernel's documentation of overlayfs",
            ) from error


# --- fuse-overlayfs -------------------------------------------------------------------------------


def probe_fuse_overlayfs(home: str) -> Mapping[str, object]:
    """Find out whether the program fuse-overlayfs can mount layers in a directory.

    Args:
        home: the directory; it exists.

    Returns:
        ``backing``, the name of the filesystem, and ``native``: whether upper directories hold only the
        marks of `graphdriver.drivers.overlay.fuse_mounter`.

    Raises:
        UnsupportedError: it cannot; the text says why.
        OSError: nothing can be written there.
    """
    with trial(home) as (directory, kind):
        mounter = FuseMounter(directory)
        try:
            mounter.mount(_OVERLAY)
            os.rmdir(f"{directory}/merged/deleted")
            os.mkdir(f"{directory}/merged/new")
        except UnsupportedError:
            raise
        except GraphDriverError as error:
            raise UnsupportedError(
                f"fuse-overlayfs: nothing can be mounted on {kind}: {error.problem}",
                hint=error.hint,
            ) from error
        finally:
            mounter.end()
        whiteout, opaque = f"{directory}/upper/deleted", os.fsencode(f"{directory}/upper/new")
        is_native = (
            os.path.lexists(whiteout)
            and is_whiteout(os.lstat(whiteout))
            and xattr.get(opaque, mounter.marks.opaque) == b"y"
        )
    return {"backing": kind, "native": is_native}
