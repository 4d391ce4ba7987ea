"""The setup of a process that serves a driver: root's rights, umask, descriptors, callers' group."""

from __future__ import annotations

import grp
import os
import resource

from graphdriver.errors import UnsupportedError


def expect_root() -> None:
    """Check that this process runs as root.

    Raises:
        UnsupportedError: it does not.
    """
    if os.geteuid() != 0:
        raise UnsupportedError(
            "layers have owners, devices and mounts of their own, which only root can make",
            hint="run it as root",
        )


def prepare() -> None:
    """Set up this process to serve a driver.

    Raises:
        UnsupportedError: it does not run as root.
    """
    expect_root()
    # Modes come from layers and from the driver; a umask would clear bits of them.
    os.umask(0)
    # A diff may have a directory open for each layer below, and daemons ask for many at once.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def group_id(group: str | int | None) -> int:
    """Return a group's number; for None -1, with which chown(2) does not change the group.

    Raises:
        UnsupportedError: there is no group of that name.
    """
    if group is None:
        return -1
    if isinstance(group, int) or group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise UnsupportedError(
            f"there is no group {group} on this machine", hint="name another, or give its number"
        ) from None
