"""Loop devices (loop(4)): block devices whose blocks are the bytes of a file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from typing import Final

from graphdriver.errors import InUseError, UnsupportedError

BLOCK: Final = 512
"""The block size of the devices made here, in bytes."""

CONTROL: Final = "/dev/loop-control"

_CTL_GET_FREE: Final = 0x4C82
_CONFIGURE: Final = 0x4C0A

_READ_ONLY, _AUTOCLEAR = 1, 4
_INFO: Final = struct.Struct("=52xI176x")
"""struct loop_info64 (linux/loop.h); only its flags are used here."""
_CONFIG: Final = struct.Struct(f"=II{_INFO.size}s64x")
"""struct loop_config: file, block size, info."""

_TRIES: Final = 100
"""How often another process may take the free device first. Each time, that process was served."""

_MISSING: Final = frozenset({errno.ENOENT, errno.ENXIO, errno.ENODEV})
_FORBIDDEN: Final = frozenset({errno.EPERM, errno.EACCES})
_WAY_OUT: Final = (
    "load the module (modprobe loop); a container must be privileged and have the host's /dev"
    " (docker run --privileged -v /dev:/dev)"
)


@contextlib.contextmanager
def attached(file_fd: int) -> Iterator[str]:
    """Attach a file to a read-only device for a ``with`` block; a mount made in it keeps the device.

    Args:
        file_fd: the file, open for reading. It is read through the page cache.

    Yields:
        The path of the device. The kernel detaches it after its last use, even if this process is
        killed.

    Raises:
        UnsupportedError: there are no loop devices here, or this process may not use them.
        InUseError: other processes take each free device first.
        OSError: the kernel refused.
    """
    number, fd = _attach(file_fd)
    try:
        yield _node(number)
    finally:
        os.close(fd)


def _attach(file_fd: int) -> tuple[int, int]:
    """Return the number of a new device and its descriptor."""
    info = _INFO.pack(_READ_ONLY | _AUTOCLEAR)
    config = bytearray(_CONFIG.pack(file_fd, BLOCK, info))
    control = _open(CONTROL)
    try:
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _CTL_GET_FREE)
            fd = _open(_node(number))
            try:
                fcntl.ioctl(fd, _CONFIGURE, config)
            except OSError as error:
                os.close(fd)
                if error.errno == errno.EBUSY:
                    continue
                if error.errno == errno.EINVAL:
                    raise UnsupportedError(
                        "this kernel cannot configure a loop device in one step (LOOP_CONFIGURE)",
                        hint="use Linux 5.8 or later",
                    ) from error
                raise
            return number, fd
    finally:
        os.close(control)
    raise InUseError(
        f"other processes took a free loop device first, {_TRIES} times",
        hint="see which hold them (losetup --list), and try again",
    )


def _node(number: int) -> str:
    return f"/dev/loop{number}"


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _MISSING:
            reason = "does not exist"
        elif error.errno in _FORBIDDEN:
            reason = f"cannot be opened ({error.strerror})"
        else:
            raise
        raise UnsupportedError(
            f"a loop device is needed, and {path} {reason}", hint=_WAY_OUT
        ) from error
