"""The mount of one image on a directory, in one of two ways.

In both the kernel reads the image through the page cache, though it then holds data twice: as pages of
the image, and as pages of the files in it. Direct I/O avoids that, but loses everything when the image
is unmounted: each start of a container would read its files from the disk again. docs/drivers.md has
figures.
"""

from __future__ import annotations

import contextlib
import enum
import errno
from collections.abc import Iterable
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
    """How the kernel reads an image, the better one first; the values are those of a probe's record."""

    FILE = "file"
    """From the file itself (Linux 6.12)."""
    LOOP = "loop"
    """Through a loop device."""


def mount_image(image_fd: int, target_fd: int, way: Way, tar_fd: int | None = None) -> None:
    """Mount an image, read-only.

    Args:
        image_fd: its file, open for reading. The mount keeps the file in use.
        target_fd: the directory, open; `O_PATH` is enough.
        way: how the kernel reads it.
        tar_fd: the file with the tar, likewise, if it is not the same.

    Raises:
        UnsupportedError: there are no loop devices here.
        GraphDriverError: the mount failed; the text contains the kernel's own message.
    """
    try:
        with contextlib.ExitStack() as held:

            def source(fd: int) -> str:
                if way is Way.LOOP:
                    return held.enter_context(loop.attached(fd))
                # By descriptor: a path may be too long for fsconfig(2), or lead elsewhere by now.
                return f"/proc/self/fd/{fd}"

            settings = [("source", source(image_fd))]
            if tar_fd is not None:
                settings.append(("device", source(tar_fd)))
            _mount(settings, target_fd)
    except OSError as error:
        reason = mount_error_text(error, target_fd)
        if error.errno == errno.ENOTBLK:
            reason = f"{filesystem_name(image_fd)}, or this kernel, needs a loop device for it"
        raise GraphDriverError(
            f"the image cannot be mounted: {reason}",
            hint="see the kernel's log (dmesg)",
        ) from error


def _mount(settings: Iterable[tuple[str, str]], target_fd: int) -> None:
    # Without "ro" the kernel would open the device for writing, which is read-only.
    calls.mount_with(FSTYPE, [*settings, ("ro", None)], _ATTRIBUTES, target_fd)
