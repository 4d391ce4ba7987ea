"""Overlay mounts by the kernel's overlayfs.

The mount options name each lower directory by its whole path where that is possible. It is not
possible where a path is longer than 255 bytes (fsconfig(2)) or the home's path holds a backslash,
which overlayfs takes for an escape. Then the options name directories relative to the home, and a
thread with a working directory of its own makes the mount.

Before Linux 6.7 overlayfs has no ``lowerdir+``: all options together must fit in one page of
mount(2), enough for some 130 layers. There, too, directories are named relative to the home.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from graphdriver.drivers.overlay.mounter import Mounter, Overlay
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.layer.overlay.whiteout import TRUSTED, USER, Marks
from graphdriver.linux import mount as calls
from graphdriver.linux.namespaces import in_user_namespace, unshare_working_directory
from graphdriver.linux.resources import mount_error_text


class KernelMounter(Mounter):
    """A mounter that uses the kernel's overlayfs.

    Args:
        home: an absolute path.
        interface: ``fsopen`` or ``mount``; by default ``fsopen`` if the kernel has ``lowerdir+``.
    """

    def __init__(self, home: str, interface: str = "") -> None:
        self.home = home
        encoded = os.fsencode(home)
        self._longest = -1 if b"\\" in encoded else calls.VALUE_MAX - len(encoded) - 1
        """The longest name below the home that fsconfig takes with the home's whole path, in bytes."""
        self._user_marks = in_user_namespace()
        self.interface = interface or ("fsopen" if _has_lowerdir_plus() else "mount")

    @property
    def marks(self) -> Marks:
        """The kernel's marks; in a user namespace only ``user.`` attributes can be set."""
        return USER if self._user_marks else TRUSTED

    def status(self) -> Sequence[tuple[str, str]]:
        """Return what depends on the kernel, under the names of Docker's overlay2."""
        return (
            ("Supports d_type", "true"),
            ("Using metacopy", "false"),
            ("userxattr", str(self._user_marks).lower()),
            ("Mount Interface", self.interface),
        )

    def mount(self, overlay: Overlay) -> None:
        """Mount an overlay.

        Raises:
            GraphDriverError: the mount failed; the text contains the kernel's own message.
        """
        if self._user_marks:
            overlay = replace(overlay, options=(*overlay.options, "userxattr"))
        try:
            if self.interface == "mount":
                self._in_home(lambda: self._mount_by_page(overlay))
            elif self._fits_whole_paths(overlay):
                self._mount_one_by_one(overlay, lambda name: f"{self.home}/{name}")
            else:
                self._in_home(lambda: self._mount_one_by_one(overlay, lambda name: name))
        except OSError as error:
            raise GraphDriverError(
                f"an overlay of {len(overlay.lowers)} lower directories cannot be mounted on"
                f" {overlay.target}: {mount_error_text(error, self.home)}",
                hint="see the kernel's log (dmesg)",
            ) from error

    def _fits_whole_paths(self, overlay: Overlay) -> bool:
        names = (*overlay.lowers, overlay.upper, overlay.work)
        return max(map(len, names)) <= self._longest  # IDs and links are ASCII

    def _mount_one_by_one(self, overlay: Overlay, place: Callable[[str], str]) -> None:
        settings = overlay.settings(place, one_by_one=True)
        # The mount goes on this descriptor: nothing can replace the directory in between.
        target = os.open(place(overlay.target), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            calls.mount_with(
                "overlay", [("source", "overlay"), *settings], overlay.fsmount_flags(), target
            )
        finally:
            os.close(target)

    def _mount_by_page(self, overlay: Overlay) -> None:
        settings = overlay.settings(lambda name: name, one_by_one=False)
        data = ",".join(
            key if value is None else f"{key}={_quoted(key, value)}" for key, value in settings
        )
        if len(os.fsencode(data)) > calls.OPTIONS_MAX:
            raise UnsupportedError(
                f"{len(overlay.lowers)} layers are more than this kernel's mount(2) takes",
                hint="use Linux 6.7 or later, or squash the image",
            )
        calls.mount("overlay", overlay.target, "overlay", overlay.mount_flags(), data)

    def _in_home(self, work: Callable[[], None]) -> None:
        """Run ``work`` in a new thread, the only one that has the home as its working directory."""
        failed: list[Exception] = []

        def run() -> None:
            try:
                # Threads share the working directory unless they unshare it: other calls resolve
                # relative paths meanwhile.
                unshare_working_directory()
                os.chdir(self.home)
                work()
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=run, name="mounter")
        thread.start()
        thread.join()
        if failed:
            raise failed[0]


def _quoted(key: str, value: str) -> str:
    """Quote an SELinux label (``s0:c1,c2``): its comma would end the option."""
    return f'"{value}"' if key == "context" else value


def _has_lowerdir_plus() -> bool:
    return calls.accepts("overlay", "lowerdir+", "/")
