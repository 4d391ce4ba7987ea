"""Idmapped mounts (mount_setattr(2)): whether a filesystem's owners can be shown as others."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from pathlib import Path

from graphdriver.linux.mount import MOUNT_ATTR_IDMAP, mount_copy


def idmapped(folder: str, namespace: int) -> int:
    """Return a copy of what is mounted at a folder, out of sight, with the owners of a user namespace.

    Args:
        folder: an absolute path.
        namespace: the user namespace, open; its ids are shown for those on disk.

    Raises:
        OSError: EINVAL where the filesystem does not know how (Linux 5.12 and later, filesystem by
            filesystem), EPERM where it belongs to another user namespace.
    """
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return mount_copy(fd, MOUNT_ATTR_IDMAP, namespace)
    except OSError as error:
        error.filename = folder
        raise
    finally:
        os.close(fd)


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
