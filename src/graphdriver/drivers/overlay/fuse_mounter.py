"""Overlay mounts by the program fuse-overlayfs.

Each mount is served by a process of the program, which must outlive the plugin that started it. So
it runs in a session of its own (the program sees to that itself), in a scope of its own where
systemd runs, and inherits no open descriptor and no environment of the plugin.

The program's marks (main.c of fuse-overlayfs 1.10; also seen in upper directories):

- A deletion is a 0:0 device, like the kernel's. Where no 0:0 device can be made, a file
  ``.wh.NAME`` deletes NAME; such upper directories are not read here.
- An opaque directory has an attribute ``opaque``, in ``trusted.overlay.`` for root and in
  ``user.fuseoverlayfs.`` in a user namespace, and holds files ``.wh..wh..opq`` and ``.wh..opq``.
- An entry that was copied up has the attribute ``user.fuseoverlayfs.origin``.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

from graphdriver.drivers.overlay.aliases import DirectoryAlias
from graphdriver.drivers.overlay.mounter import Mounter, Overlay
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.layer.overlay.whiteout import FUSE, FUSE_USER, Marks
from graphdriver.linux import mount as calls
from graphdriver.linux.namespaces import in_user_namespace

PROGRAM: Final = "fuse-overlayfs"
SYSTEMD: Final = "/run/systemd/system"
"""This directory exists if systemd runs the machine (sd_booted(3))."""

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SCOPE: Final = ("systemd-run", "--scope", "--quiet", "--collect", "--")
_SETTINGS: Final = ("writeback=0",)
"""Writes go to the upper directory at once: layers are read there, and a process of the program that is
killed loses nothing."""


class FuseMounter(Mounter):
    """A mounter that runs the program fuse-overlayfs.

    The program gets an alias of the home without devices (``nodev``), for two reasons. To copy up a
    device, it opens the device and reads it to its end, as root: a container that may not open the
    machine's disk could have it copied. And it accepts no path with a colon, which the home's path
    may contain.

    Args:
        home: an absolute path.
    """

    def __init__(self, home: str) -> None:
        self.home = home
        self._in_user_namespace = in_user_namespace()
        # In a user namespace no device can be made, so nodev is not needed.
        self._alias = DirectoryAlias(home, 0 if self._in_user_namespace else calls.MS_NODEV)

    @property
    def marks(self) -> Marks:
        """The program's marks."""
        return FUSE_USER if self._in_user_namespace else FUSE

    def status(self) -> Sequence[tuple[str, str]]:
        """Return the program's version."""
        return ((PROGRAM, _version()),)

    def mount(self, overlay: Overlay) -> None:
        """Mount an overlay, and leave the process that serves it running.

        Raises:
            GraphDriverError: the program failed; the text contains its own message.
            OSError: the home's alias cannot be mounted, or a directory cannot be made.
        """
        options = [f"lowerdir={':'.join(overlay.lowers)}"]
        if overlay.upper:
            options += [f"upperdir={overlay.upper}", f"workdir={overlay.work}"]
            # The program makes this directory, too, but without a word of why it cannot.
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.join(self.home, overlay.work, "work"), 0o700)
        options += [*_SETTINGS, *overlay.options]
        command = [_program(), "-o", ",".join(options), os.path.join(self.home, overlay.target)]
        if os.path.isdir(SYSTEMD) and not self._in_user_namespace:
            # Otherwise systemd would end the process together with the plugin's service.
            command[:0] = _SCOPE
        self._alias.mount()
        done = subprocess.run(
            command,
            check=False,
            cwd=self._alias.path,  # lower, upper and work directories are relative to the home
            env={"PATH": _PATH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip().replace("\n", "; ")
            raise GraphDriverError(
                f"an overlay of {len(overlay.lowers)} lower directories cannot be mounted on"
                f" {overlay.target}: {words}",
                hint="check that /dev/fuse exists (modprobe fuse) and may be opened",
            )

    def end(self) -> None:
        """Unmount the home's alias; no layer is mounted any more."""
        self._alias.unmount()


def expect_program() -> None:
    """Check that the program is installed and the kernel has FUSE.

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
