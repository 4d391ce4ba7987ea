"""What a process needs to keep layers: root's rights, no umask, all descriptors that it can get."""

from __future__ import annotations

import os
import resource

from graphdriver.errors import UnsupportedError


def expect_root() -> None:
    """See that this process is root's.

    Raises:
        UnsupportedError: it is not.
    """
    if os.geteuid() != 0:
        raise UnsupportedError(
            "layers have owners, devices and mounts of their own, which only root can make",
            hint="run it as root",
        )


def prepare() -> None:
    """Make this process one that can keep layers.

    Raises:
        UnsupportedError: it is not root's.
    """
    expect_root()
    os.umask(0)
    # A diff may have a folder open for each layer below, and daemons ask for many at once.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
