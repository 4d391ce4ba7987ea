"""Whether containerd sees what this process mounts."""

from __future__ import annotations

import logging
import os

from graphdriver.linux.mountinfo import mount_point_of

_log = logging.getLogger(__name__)


def warn_unless_visible(root: str) -> None:
    """Log a warning if mounts below a root directory may not appear in containerd's mount namespace.

    containerd is taken to be in the namespace of the process 1. Another namespace sees a mount only if
    it is below a shared one (mount_namespaces(7)).

    Args:
        root: the directory.

    Raises:
        OSError: /proc cannot be read.
    """
    try:
        if os.path.samefile("/proc/self/ns/mnt", "/proc/1/ns/mnt"):
            return
    except PermissionError:  # in a user namespace; then it is another one
        pass
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = mount_point_of(fd)
    finally:
        os.close(fd)
    if found is None or not found.is_shared:
        _log.warning(
            "containerd may not see the mounts in %s: this process has a mount namespace of its own,"
            " and %s is not a shared mount; run it in containerd's namespace (a systemd unit without"
            " PrivateTmp=, ProtectSystem= and the like), or make that mount shared",
            root,
            os.fsdecode(found.point) if found else "its filesystem",
        )
