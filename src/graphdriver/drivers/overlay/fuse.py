"""How layers are mounted upon each other by the program ``fuse-overlayfs``.

It serves each mount from a process of its own, that must outlive whoever began it: it is begun in a
session of its own (the program sees to that itself), in a scope of its own where there is systemd, and
with nothing open or set that is the plugin's.

Its marks (main.c of fuse-overlayfs 1.10; seen in upper folders): deletions are 0:0 devices as the
kernel's. A folder that hides all below has an attribute ``opaque``, in ``trusted.overlay.`` for root
and in ``user.fuseoverlayfs.`` in a user namespace, and files ``.wh..wh..opq`` and ``.wh..opq`` in it.
What was copied up has ``user.fuseoverlayfs.origin``. Where no 0:0 device can be made, ``.wh.NAME``
deletes NAME; such folders are not read here.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

from graphdriver.drivers.overlay.aliases import Shown
from graphdriver.drivers.overlay.mounts import Mounter, Overlay
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.layer.overlay.whiteout import FUSE, FUSE_USER, Marks
from graphdriver.linux import mount as calls
from graphdriver.linux.namespaces import in_user_namespace

PROGRAM: Final = "fuse-overlayfs"
SYSTEMD: Final = "/run/systemd/system"
"""This folder is there if systemd runs the machine (sd_booted(3))."""

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SCOPE: Final = ("systemd-run", "--scope", "--quiet", "--collect", "--")
_SETTINGS: Final = ("writeback=0",)
"""Whatever is written goes to the upper folder at once, where layers are read: nothing is lost with a
helper that is killed."""


class FuseMounter(Mounter):
    """Mounts overlays by the program.

    It is shown the home in another place, without devices (``nodev``). It copies a device of a layer
    below by opening it and reading it to its end, as root: so a container that may not open the
    machine's disk could have it copied. And it takes no path with a colon, which the home may hold.

    Args:
        home: an absolute path.
    """

    def __init__(self, home: str) -> None:
        self.home = home
        self._in_user_namespace = in_user_namespace()
        # Nobody can make devices in a user namespace.
        self._shown = Shown(home, 0 if self._in_user_namespace else calls.MS_NODEV)

    @property
    def marks(self) -> Marks:
        """The program's own."""
        return FUSE_USER if self._in_user_namespace else FUSE

    def status(self) -> Sequence[tuple[str, str]]:
        """Tell the program's version."""
        return ((PROGRAM, _version()),)

    def mount(self, overlay: Overlay) -> None:
        """Mount an overlay, and leave the process that serves it to itself."""
        told = [f"lowerdir={':'.join(overlay.lowers)}"]
        if overlay.upper:
            told += [f"upperdir={overlay.upper}", f"workdir={overlay.work}"]
        told += [*_SETTINGS, *overlay.options]
        command = [_program(), "-o", ",".join(told), os.path.join(self.home, overlay.target)]
        if os.path.isdir(SYSTEMD) and not self._in_user_namespace:
            command[:0] = _SCOPE
        self._shown.show()
        done = subprocess.run(
            command,
            check=False,
            cwd=self._shown.path,
            env={"PATH": _PATH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().replace("\n", "; ")
            raise GraphDriverError(
                f"{len(overlay.lowers)} layers below {overlay.target} cannot be mounted: {said}",
                hint="see that /dev/fuse is there (modprobe fuse) and may be opened",
            )

    def end(self) -> None:
        """Show the home no longer; nothing is mounted any more."""
        self._shown.end()


def expect_program() -> None:
    """See whether the program is there, and this kernel has what it needs.

    Raises:
        UnsupportedError: one of them is missing.
    """
    _program()
    if not calls.knows("fuse"):
        raise UnsupportedError(
            f"{PROGRAM}: this kernel has no FUSE", hint="load it (modprobe fuse), or use vfs"
        )


def _program() -> str:
    found = shutil.which(PROGRAM, path=_PATH)
    if not found:
        raise UnsupportedError(
            f"{PROGRAM}: the program {PROGRAM} is not installed",
            hint=f"install it (apt-get install {PROGRAM}), or use vfs",
        )
    return found


@functools.cache
def _version() -> str:
    done = subprocess.run([_program(), "--version"], check=False, capture_output=True, text=True)
    lines = (line.partition(": version ") for line in done.stdout.splitlines())
    return next((version for name, _, version in lines if name == PROGRAM), "unknown")
