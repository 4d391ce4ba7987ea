"""How layers are mounted upon each other, by the kernel.

One mount has a lower folder for each layer below. Names in the mount table are whole paths where they
can be; where they cannot - the kernel takes no more than 255 bytes for one, and takes backslashes for
escapes - they are relative to the home, from a thread that has a working directory of its own. The
same is done with mount(2), for kernels that cannot be told one lower folder at a time (before Linux
6.7): there all options together have a page, which is room for some 130 layers.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.layer.overlay.whiteout import TRUSTED, USER, Marks
from graphdriver.linux import mount as calls
from graphdriver.linux.namespaces import in_user_namespace, unshare_working_directory
from graphdriver.linux.resources import mount_error_text

SETTINGS: Final = (("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"))
"""What every overlay is told: nothing in a layer may show other folders than its own, and a lower
folder may be used by many."""

_ATTRIBUTES: Final = {
    "ro": (calls.MOUNT_ATTR_RDONLY, calls.MS_RDONLY),
    "nosuid": (calls.MOUNT_ATTR_NOSUID, calls.MS_NOSUID),
    "nodev": (calls.MOUNT_ATTR_NODEV, calls.MS_NODEV),
    "noexec": (calls.MOUNT_ATTR_NOEXEC, calls.MS_NOEXEC),
    "noatime": (calls.MOUNT_ATTR_NOATIME, calls.MS_NOATIME),
    "nodiratime": (calls.MOUNT_ATTR_NODIRATIME, calls.MS_NODIRATIME),
}
"""Options that belong to the mount and not to the filesystem: for fsmount(2), for mount(2)."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """One overlay: folders relative to the home, of which ``upper`` and ``work`` may be missing.

    ``options`` are added to `SETTINGS`: ``key=value``, or a flag.
    """

    lowers: Sequence[str]
    target: str
    upper: str = ""
    work: str = ""
    options: Sequence[str] = field(default=())

    def settings(
        self, place: Callable[[str], str], *, one_by_one: bool
    ) -> list[tuple[str, str | None]]:
        """Return what the filesystem is told, in order."""
        told: list[tuple[str, str | None]] = []
        if one_by_one:
            told += [("lowerdir+", place(one)) for one in self.lowers]
        else:
            told.append(("lowerdir", ":".join(place(one) for one in self.lowers)))
        if self.upper:
            told += [("upperdir", place(self.upper)), ("workdir", place(self.work))]
        told += SETTINGS
        for option in self.options:
            key, equals, value = option.partition("=")
            if key not in _ATTRIBUTES:
                told.append((key, value if equals else None))
        return told

    def flags(self, which: int) -> int:
        """Return the flags of the mount: 0 for those of fsmount(2), 1 for those of mount(2)."""
        flags = 0
        for option in self.options:
            flags |= _ATTRIBUTES.get(option, (0, 0))[which]
        return flags


class Mounter(Protocol):
    """Mounts overlays below a home, in one way or another."""

    @property
    def marks(self) -> Marks:
        """What the mounts write into upper folders, and obey in all."""
        ...

    def mount(self, overlay: Overlay) -> None:
        """Mount an overlay on its target, which is there.

        Raises:
            GraphDriverError: it cannot be; the text says why.
        """
        ...

    def status(self) -> Sequence[tuple[str, str]]:
        """Tell how it is done, for ``docker info``."""
        ...

    def end(self) -> None:
        """Leave nothing behind; what was mounted is unmounted."""
        return


class KernelMounter(Mounter):
    """Mounts overlays by the kernel's own overlayfs.

    Args:
        home: an absolute path.
        interface: ``fsopen`` or ``mount``; by default the newer one if the kernel has it.
    """

    def __init__(self, home: str, interface: str = "") -> None:
        self.home = home
        self._user_marks = in_user_namespace()
        self.interface = interface or ("fsopen" if _takes_lower_folders_one_by_one() else "mount")

    @property
    def marks(self) -> Marks:
        """Those of the kernel: in a user namespace only ``user.`` attributes can be set."""
        return USER if self._user_marks else TRUSTED

    def status(self) -> Sequence[tuple[str, str]]:
        """Tell of what depends on the kernel."""
        return (
            ("Supports d_type", "true"),
            ("Using metacopy", "false"),
            ("userxattr", str(self._user_marks).lower()),
            ("Mount Interface", self.interface),
        )

    def mount(self, overlay: Overlay) -> None:
        """Mount an overlay; in errors are the kernel's words."""
        if self._user_marks:
            overlay = replace(overlay, options=(*overlay.options, "userxattr"))
        try:
            if self.interface == "mount":
                self._in_home(lambda: self._mount_by_page(overlay))
            elif self._is_short(overlay):
                self._mount_one_by_one(overlay, lambda name: f"{self.home}/{name}")
            else:
                self._in_home(lambda: self._mount_one_by_one(overlay, lambda name: name))
        except OSError as error:
            raise GraphDriverError(
                f"{len(overlay.lowers)} layers below {overlay.target} cannot be mounted:"
                f" {mount_error_text(error, self.home)}",
                hint="see the kernel's log",
            ) from error

    def _is_short(self, overlay: Overlay) -> bool:
        names = (*overlay.lowers, overlay.upper, overlay.work)
        longest = max(len(os.fsencode(name)) for name in names)
        home = os.fsencode(self.home)
        return b"\\" not in home and len(home) + 1 + longest <= calls.VALUE_MAX

    def _mount_one_by_one(self, overlay: Overlay, place: Callable[[str], str]) -> None:
        settings = overlay.settings(place, one_by_one=True)
        target = os.open(place(overlay.target), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            calls.mount_with(
                "overlay", [("source", "overlay"), *settings], overlay.flags(0), target
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
        calls.mount("overlay", overlay.target, "overlay", overlay.flags(1), data)

    def _in_home(self, work: Callable[[], None]) -> None:
        """Do it in a thread whose working directory is the home, and no other thread's is."""
        failed: list[Exception] = []

        def run() -> None:
            try:
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
    """Keep the commas of an SELinux label (``s0:c1,c2``) from ending it."""
    return f'"{value}"' if key == "context" else value


def _takes_lower_folders_one_by_one() -> bool:
    return calls.accepts("overlay", "lowerdir+", "/")


def is_mounted(folder: str) -> bool:
    """Tell whether something is mounted on a folder; not if there is no folder."""
    try:
        return os.stat(folder).st_dev != os.stat(os.path.dirname(folder)).st_dev
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        if error.errno == errno.ENOTCONN:
            return True
        raise


def is_dead(folder: str) -> bool:
    """Tell whether what is mounted on a folder has lost the program that serves it."""
    try:
        os.stat(folder)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False
