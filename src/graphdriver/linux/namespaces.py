"""The namespaces of this process, and new ones: namespaces(7), user_namespaces(7)."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from graphdriver.linux.libc import libc, raise_errno
from graphdriver.linux.mount import MS_REC, MS_SLAVE, mount

_CLONE_FS = 0x200
_CLONE_NEWNS = 0x20000
_EVERYBODY = ["0", "0", "4294967295"]


def in_user_namespace() -> bool:
    """Tell whether this process's root is only the root of a user namespace."""
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        return file.read().split() != _EVERYBODY


def unshare_working_directory() -> None:
    """Give the calling thread a working directory of its own: unshare(2) with ``CLONE_FS``.

    Raises:
        OSError: the kernel refused.
    """
    if libc.unshare(_CLONE_FS):
        raise_errno("unshare")


def unshare_mounts() -> None:
    """Give the calling thread, and all that it starts, a mount namespace of their own.

    Their mounts end with the last of them, also after a kill. What others mount and unmount is seen
    here as before.

    Raises:
        OSError: the kernel refused.
    """
    if libc.unshare(_CLONE_NEWNS):
        raise_errno("unshare")
    mount("none", "/", "", MS_REC | MS_SLAVE, "")


def new_user_namespace(uid_map: str, gid_map: str) -> int:
    """Open a new user namespace.

    A process with threads cannot make one for itself (unshare(2)), so the program unshare does it.

    Args:
        uid_map: what is written to ``/proc/PID/uid_map`` (user_namespaces(7)).
        gid_map: likewise.

    Raises:
        OSError: it cannot be made, or the kernel refused the maps.
    """
    import subprocess  # seldom needed, and slow to import

    pipe = subprocess.PIPE
    with subprocess.Popen(["unshare", "--user", "cat"], 0, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdin and holder.stdout
        with contextlib.suppress(BrokenPipeError):
            holder.stdin.write(b"\n")
        if not holder.stdout.readline():
            raise OSError(errno.EPERM, "unshare(1) made no user namespace")
        process = Path(f"/proc/{holder.pid}")
        (process / "uid_map").write_text(uid_map, encoding="ascii")
        (process / "gid_map").write_text(gid_map, encoding="ascii")
        return os.open(process / "ns/user", os.O_RDONLY | os.O_CLOEXEC)
