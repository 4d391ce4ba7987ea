"""mount(2), umount(2), and the newer calls that make a mount or a copy of one.

fsopen(2), fsconfig(2), fsmount(2) and move_mount(2) (Linux 5.2) take one setting at a time. So there
may be more than a page of settings, and the kernel reports errors as messages. A value has at most 255
bytes. open_tree(2) makes a copy without a path, and mount_setattr(2) (5.12) changes the copy.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable

from graphdriver.linux.libc import libc, raise_errno

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_PRIVATE = 1 << 18
"""Mounts do not propagate to or from other mount points; cannot be combined with other flags."""

MS_SLAVE = 1 << 19
"""Mounts propagate to a mount point, and not from it; only with `MS_REC`."""
MS_REC = 0x4000
"""Change all mounts below as well."""

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x200000
"""The kernel follows no symbolic link on the mount (Linux 5.14); they can be made and read."""
MOUNT_ATTR_IDMAP = 0x100000
"""Show the owners of a user namespace; only for `mount_copy`."""

MNT_DETACH = 0x2
"""Remove the mount from the tree now, and end it when it is no longer in use."""

VALUE_MAX = 255
"""How many bytes one setting's value may have (fsconfig(2))."""

OPTIONS_MAX = 4095
"""How many bytes all options of mount(2) may have together: a page, less its NUL."""

_UMOUNT_NOFOLLOW = 0x8
_FSOPEN_CLOEXEC = 0x1
_FSMOUNT_CLOEXEC = 0x1
_SET_FLAG, _SET_STRING, _CMD_CREATE = 0, 1, 6
_EMPTY_PATHS = 0x4 | 0x40  # MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH

_OPEN_TREE_CLONE = 0x1
_AT_EMPTY_PATH = 0x1000

# The same on every architecture, as for all calls since Linux 5.1.
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = range(428, 433)
_SYS_MOUNT_SETATTR = 442

Settings = Iterable[tuple[str, str | None]]
"""Settings of a new mount, in order: a key and its value, None for a flag."""


class MountError(OSError):
    """A mount that failed; ``message`` is the kernel's message, if there is one."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(number, f"{os.strerror(number)}{f' ({message})' if message else ''}")
        self.message = message


def mount(source: str, target: str, fstype: str, flags: int, data: str) -> None:
    """Mount a filesystem with the older call.

    Args:
        source: the device, or a label for filesystems without one.
        target: a directory's path.
        fstype: the filesystem's name.
        flags: any of the ``MS_`` bits.
        data: its options, separated by commas.

    Raises:
        OSError: see mount(2).
    """
    names = [os.fsencode(one) for one in (source, target, fstype)]
    if libc.mount(*names, ctypes.c_ulong(flags), os.fsencode(data)):
        raise MountError(ctypes.get_errno(), "")


def mount_with(fstype: str, settings: Settings, attributes: int, target_fd: int) -> None:
    """Mount a filesystem with the newer calls.

    Args:
        fstype: the filesystem's name.
        settings: in order; a value has at most `VALUE_MAX` bytes.
        attributes: any of the ``MOUNT_ATTR_`` bits.
        target_fd: the directory, open; `O_PATH` is enough.

    Raises:
        MountError: ENOSYS if the kernel lacks these calls; see fsconfig(2) and move_mount(2).
    """
    context = _call(_SYS_FSOPEN, os.fsencode(fstype), _FSOPEN_CLOEXEC)
    try:
        for key, value in settings:
            kind, text = (_SET_FLAG, None) if value is None else (_SET_STRING, os.fsencode(value))
            _configure(context, kind, key.encode(), text)
        _configure(context, _CMD_CREATE, None, None)
        made = _call(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes, context=context)
    finally:
        os.close(context)
    try:
        _call(_SYS_MOVE_MOUNT, made, b"", target_fd, b"", _EMPTY_PATHS)
    finally:
        os.close(made)


def mount_copy(directory_fd: int, attributes: int, namespace: int = 0) -> int:
    """Open a directory in a copy of its mount, without the mounts below it.

    No path leads to the copy; it lasts as long as something in it is open.

    Args:
        directory_fd: the directory; `O_PATH` is enough.
        attributes: any of the ``MOUNT_ATTR_`` bits.
        namespace: for `MOUNT_ATTR_IDMAP` an open user namespace; its ids replace those on disk.

    Returns:
        The directory in the copy, `O_PATH`; the caller closes it.

    Raises:
        MountError: ENOSYS before Linux 5.12; EPERM without CAP_SYS_ADMIN where the mount is; EINVAL
            for a directory of another mount namespace, or if the filesystem does not support it.
    """
    flags = _OPEN_TREE_CLONE | _AT_EMPTY_PATH | os.O_CLOEXEC
    copy = _call(_SYS_OPEN_TREE, directory_fd, b"", flags)
    change = struct.pack("4Q", attributes, 0, 0, namespace)  # struct mount_attr
    try:
        _call(_SYS_MOUNT_SETATTR, copy, b"", _AT_EMPTY_PATH, change, len(change))
    except BaseException:
        os.close(copy)
        raise
    return copy


def idmapped_copy(directory: str, namespace: int) -> int:
    """Open a directory in an idmapped copy of its mount (mount_setattr(2)).

    Args:
        directory: an absolute path.
        namespace: an open user namespace; its ids replace those on disk.

    Raises:
        OSError: EINVAL if the filesystem does not support it (Linux 5.12 and later, filesystem by
            filesystem), EPERM if it belongs to another user namespace.
    """
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return mount_copy(fd, MOUNT_ATTR_IDMAP, namespace)
    except OSError as error:
        error.filename = directory
        raise
    finally:
        os.close(fd)


def knows(fstype: str) -> bool:
    """Tell whether the kernel supports a filesystem; it may load a module for it."""
    with open("/proc/filesystems", encoding="ascii") as file:
        if any(line.split()[-1] == fstype for line in file):
            return True
    try:
        os.close(_call(_SYS_FSOPEN, os.fsencode(fstype), _FSOPEN_CLOEXEC))
    except MountError:
        return False
    return True


def accepts(fstype: str, key: str, value: str) -> bool:
    """Tell whether a filesystem takes a setting, without a mount.

    Args:
        fstype: its name.
        key: the setting.
        value: a valid value of it.
    """
    try:
        context = _call(_SYS_FSOPEN, os.fsencode(fstype), _FSOPEN_CLOEXEC)
    except MountError:
        return False
    try:
        _configure(context, _SET_STRING, key.encode(), os.fsencode(value))
    except MountError:
        return False
    finally:
        os.close(context)
    return True


def unmount(target: str, flags: int = 0) -> None:
    """Unmount the topmost mount on a directory; a link is not followed.

    Args:
        target: the directory's path.
        flags: 0, or `MNT_DETACH`.

    Raises:
        OSError: EBUSY if it is in use, EINVAL if nothing is mounted there; see umount(2).
    """
    if libc.umount2(os.fsencode(target), flags | _UMOUNT_NOFOLLOW):
        raise_errno(target)


def _configure(context: int, kind: int, key: bytes | None, value: bytes | None) -> None:
    _call(_SYS_FSCONFIG, context, kind, key, value, 0, context=context)


def _call(*arguments: int | bytes | None, context: int | None = None) -> int:
    result: int = libc.syscall(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise MountError(number, _messages(context) if context is not None else "")
    return result


def _messages(context: int) -> str:
    """Return the kernel's messages about a new filesystem: lines ``e …`` and ``w …``."""
    messages = []
    while True:
        try:
            messages.append(os.read(context, 4096).decode("utf-8", "replace")[2:].strip())
        except OSError as error:
            if error.errno == errno.ENODATA:
                return "; ".join(messages)
            raise
