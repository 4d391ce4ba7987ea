"""The mount of one image on a directory.

The kernel reads an image from its file (Linux 6.12), or through a loop device.
"""

from __future__ import annotations

import enum
from typing import Final

from graphdriver.errors import GraphDriverError
from graphdriver.linux import loop
from graphdriver.linux import mount as calls
from graphdriver.linux.resources import mount_error_text

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
    """How the kernel reads an image; the values are those of the probe's record."""

    FILE = "file"
    """From the file itself."""
    LOOP = "loop"
    """Through a loop device, by direct I/O where the filesystem below supports it."""


def mount_image(image_fd: int, target_fd: int, way: Way) -> None:
    """Mount an image, read-only.

    Args:
        image_fd: its file, open for reading. The mount keeps it open.
        target_fd: the directory, open; `O_PATH` is enough.
        way: how.

    Raises:
        UnsupportedError: there are no loop devices here.
        GraphDriverError: the mount failed; the text contains the kernel's own message.
    """
    try:
        if way is Way.FILE:
            # By descriptor: a path may be too long for fsconfig(2), or lead elsewhere by now.
            _mount(f"/proc/self/fd/{image_fd}", target_fd)
        else:
            with loop.attached(image_fd) as device:
                _mount(device.path, target_fd)
    except OSError as error:
        raise GraphDriverError(
            f"the image cannot be mounted: {mount_error_text(error, target_fd)}",
            hint="see the kernel's log (dmesg)",
        ) from error


def _mount(source: str, target_fd: int) -> None:
    # Without "ro" the kernel would open the device for writing, which is read-only.
    calls.mount_with(FSTYPE, [("source", source), ("ro", None)], _ATTRIBUTES, target_fd)
