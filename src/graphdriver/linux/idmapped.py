"""Idmapped mounts (mount_setattr(2)): whether a filesystem's owners can be shown as others."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
from pathlib import Path
from typing import Final

from graphdriver.linux.libc import libc, raise_errno

_SYS_OPEN_TREE: Final = 428
_SYS_MOUNT_SETATTR: Final = 442
_OPEN_TREE_CLONE: Final = 0x1
_AT_EMPTY_PATH: Final = 0x1000
_MOUNT_ATTR_IDMAP: Final = 0x100000


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def idmapped(folder: str, namespace: int) -> int:
    """Return a copy of what is mounted at a folder, out of sight, with the owners of a user namespace.

    Args:
        folder: an absolute path.
        namespace: the user namespace, open; its ids are shown for those on disk.

    Raises:
        OSError: EINVAL where the filesystem does not know how (Linux 5.12 and later, filesystem by
            filesystem), EPERM where it belongs to another user namespace.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    tree: int = libc.syscall(_SYS_OPEN_TREE, -1, os.fsencode(folder), flags)
    if tree < 0:
        raise_errno(folder)
    attributes = _MountAttributes(_MOUNT_ATTR_IDMAP, 0, 0, namespace)
    where = (tree, b"", _AT_EMPTY_PATH)
    if libc.syscall(
        _SYS_MOUNT_SETATTR, *where, ctypes.byref(attributes), ctypes.sizeof(attributes)
    ):
        number = ctypes.get_errno()
        os.close(tree)
        raise OSError(number, os.strerror(number), folder)
    return tree


def user_namespace(uid_map: str, gid_map: str) -> int:
    """Open a new user namespace.

    A process with threads cannot make one for itself (unshare(2)), so another program does.

    Args:
        uid_map: what is written to ``/proc/PID/uid_map`` (user_namespaces(7)).
        gid_map: likewise.

    Raises:
        OSError: it cannot be made, or there may be no such maps.
    """
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
