"""The mount of one image on a directory, in one of three ways.

Files of an image have pages of their own in the page cache. Where the kernel reads the image through
the page cache too, it keeps each page twice, and counts both against the memory limit of the container
that read it. Direct I/O avoids that. docs/drivers.md has the figures.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Sequence
from typing import Final

from graphdriver.errors import GraphDriverError
from graphdriver.linux import loop
from graphdriver.linux import mount as calls
from graphdriver.linux.resources import filesystem_name, mount_error_text

FSTYPE: Final = "erofs"

# Containers reach the files through overlays, which have flags of their own: a device or a set-user-ID
# program works there. On the image's own mount, where users of the host may reach them, none does.
_ATTRIBUTES: Final = (
    calls.MOUNT_ATTR_RDONLY
    | calls.MOUNT_ATTR_NOSUID
    | calls.MOUNT_ATTR_NODEV
    | calls.MOUNT_ATTR_NOEXEC
)


class Way(enum.Enum):
    """How the kernel reads an image, the best one first; the values are those of a probe's record."""

    DIRECT = "direct"
    """From the file, by direct I/O (Linux 6.13)."""
    FILE = "file"
    """From the file, through the page cache (Linux 6.12)."""
    LOOP = "loop"
    """Through a loop device, which uses direct I/O where it can."""


def mount_image(image_fd: int, target_fd: int, way: Way) -> bool:
    """Mount an image, read-only.

    Args:
        image_fd: its file, open for reading. The mount keeps the file in use.
        target_fd: the directory, open; `O_PATH` is enough.
        way: one that a probe of this filesystem found to work. On a disk with blocks of 4,096 bytes
            `Way.DIRECT` gives mounts that cannot be read.

    Returns:
        Whether the kernel reads the image by direct I/O.

    Raises:
        UnsupportedError: there are no loop devices here.
        GraphDriverError: the mount failed; the text contains the kernel's own message.
    """
    try:
        return _mount_from(image_fd, target_fd, way)
    except OSError as error:
        reason = mount_error_text(error, target_fd)
        if error.errno == errno.ENOTBLK:
            reason = f"{filesystem_name(image_fd)}, or this kernel, needs a loop device for it"
        raise GraphDriverError(
            f"the image cannot be mounted: {reason}",
            hint="see the kernel's log (dmesg)",
        ) from error


def _mount_from(image_fd: int, target_fd: int, way: Way) -> bool:
    if way is Way.LOOP:
        with loop.attached(image_fd) as device:
            _mount(device.path, (), target_fd)
            return device.is_direct
    # By descriptor: a path may be too long for fsconfig(2), or lead elsewhere by now.
    flags = ("directio",) if way is Way.DIRECT else ()
    _mount(f"/proc/self/fd/{image_fd}", flags, target_fd)
    return way is Way.DIRECT


def _mount(source: str, flags: Sequence[str], target_fd: int) -> None:
    # Without "ro" the kernel would open the device for writing, which is read-only.
    settings = [("source", source), *((flag, None) for flag in ("ro", *flags))]
    calls.mount_with(FSTYPE, settings, _ATTRIBUTES, target_fd)
