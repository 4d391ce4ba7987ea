"""namespaces(7), user_namespaces(7): which of them this process is in, and leaving a shared one."""

from __future__ import annotations

from graphdriver.linux.libc import libc, raise_errno

_CLONE_FS = 0x200
_EVERYBODY = ["0", "0", "4294967295"]


def in_user_namespace() -> bool:
    """Tell whether this process's root is root of a user namespace only."""
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        return file.read().split() != _EVERYBODY


def unshare_working_directory() -> None:
    """Give the calling thread a working directory of its own: unshare(2) with ``CLONE_FS``.

    Raises:
        OSError: the kernel refused.
    """
    if libc.unshare(_CLONE_FS):
        raise_errno("unshare")
