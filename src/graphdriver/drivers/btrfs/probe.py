"""The probe of the driver btrfs: is a directory on btrfs, and can subvolumes be made there?"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Final

from graphdriver.drivers.btrfs.subvolumes import ROOT, delete_layer
from graphdriver.errors import UnsupportedError
from graphdriver.files.directories import opened
from graphdriver.files.path_lock import locked
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.linux import btrfs, filesystem
from graphdriver.linux.mount import knows
from graphdriver.linux.mountinfo import fstype_of

_PROBE: Final = ".btrfs-probe"


def expect_kernel() -> None:
    """Check that this kernel has btrfs.

    Raises:
        UnsupportedError: it does not.
    """
    if not knows("btrfs"):
        raise UnsupportedError(
            "btrfs: this kernel has no btrfs", hint="load it (modprobe btrfs), or use overlay2"
        )


def expect_btrfs(home: str) -> None:
    """Check that a home, which exists, is on btrfs.

    Raises:
        UnsupportedError: it is on another filesystem.
    """
    with _opened_home(home) as fd:
        if filesystem.magic_of(fd) != filesystem.BTRFS:
            raise UnsupportedError(
                f"btrfs: {home} is on {fstype_of(fd)}",
                hint="set the daemon's data-root to a btrfs filesystem, or use overlay2",
            )


def probe_subvolumes(home: str) -> Mapping[str, object]:
    """Make a subvolume in a home, find it in the filesystem's trees, and destroy it.

    Returns:
        An empty mapping: the probe has no result besides its success.

    Raises:
        UnsupportedError: it cannot be done; the text says why and what to do.
        OSError: nothing can be written there.
    """
    with locked(home), _opened_home(home) as fd:
        try:
            delete_layer(fd, os.fsencode(_PROBE))
            os.mkdir(_PROBE, 0o700, dir_fd=fd)
            with opened(_PROBE, dir_fd=fd) as directory:
                btrfs.create_subvolume(directory, os.fsencode(ROOT))
            delete_layer(fd, os.fsencode(_PROBE))
        except PermissionError as error:
            # Every user may make a subvolume; an empty one can be removed like a directory.
            remove_tree(fd, os.fsencode(_PROBE))
            raise UnsupportedError(
                f"btrfs: subvolumes cannot be listed and destroyed here ({error.strerror}): that"
                " requires CAP_SYS_ADMIN outside of all user namespaces",
                hint="use overlay2 or vfs",
            ) from error
    return {}


def _opened_home(home: str) -> contextlib.AbstractContextManager[int]:
    # A home may be a symlink, which `opened` refuses; "." is the directory behind it.
    return opened(os.path.join(home, "."))
