"""The driver on fuse-overlayfs: overlay2 for kernels and users that have no overlayfs.

On disk it is overlay2's layout, with the program's marks in place of the kernel's::

    HOME/ID/diff        what the layer changed: the upper folder of its mount
    HOME/ID/link        the name of its link in HOME/l
    HOME/ID/lower       l/NAME:l/NAME:...: the layers below, nearest first; none in a first layer
    HOME/ID/work        the program's own
    HOME/ID/committed   it has, or had, a child: from then on it is mounted without an upper folder
    HOME/ID/merged      where it is mounted, while it is; on a read-only filesystem it is on ``work``
    HOME/l/NAME         a link to ../ID/diff

A process serves each mount (`graphdriver.drivers.overlay.fuse`), and outlives the plugin. When it is
killed the mount is dead ("transport endpoint is not connected") until the next get, which mounts anew;
what was written is in ``diff``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar, Final

from graphdriver.driver import Suitability
from graphdriver.drivers.overlay.driver import OverlayDriver
from graphdriver.drivers.overlay.fuse import FuseMounter, expect_program
from graphdriver.drivers.overlay.ground import Ground
from graphdriver.drivers.overlay.mounts import Overlay
from graphdriver.drivers.overlay.options import HomeOptions
from graphdriver.drivers.overlay.probe import trial
from graphdriver.drivers.probed import probed
from graphdriver.errors import GraphDriverError, UnsupportedError
from graphdriver.layer.overlay.whiteout import is_whiteout
from graphdriver.linux import xattr

_KNOWN: Final = ("size",)


class FuseOverlayfsDriver(OverlayDriver):
    """Layers upon each other by the program fuse-overlayfs."""

    driver_name: ClassVar[str] = "fuse-overlayfs"
    mount_type: ClassVar[str] = "fuse3.fuse-overlayfs"

    @classmethod
    def probe(cls, home: str) -> Suitability:
        """Tell how well the driver would do in a folder, which exists."""
        kind = _examine(home)["backing"]
        return Suitability(22, f"layers share all that they do not change, by a program, on {kind}")

    @classmethod
    def check(cls, options: Sequence[str]) -> None:
        """Refuse what would be refused in any home."""
        HomeOptions.parse(options, cls.driver_name, _KNOWN)
        expect_program()

    @classmethod
    def survey(cls, home: str, options: Sequence[str]) -> Ground:
        """Look at a home by mounting something there; see `OverlayDriver.survey`."""
        parsed = HomeOptions.parse(options, cls.driver_name, _KNOWN)
        found = probed(home, lambda: _examine(home))
        # What is not known is not built upon: the naive differ is right with any marks.
        return Ground(
            cls.driver_name,
            FuseMounter(home),
            parsed,
            str(found.get("backing", "unknown")),
            found.get("native") is True,
        )


def _examine(home: str) -> dict[str, object]:
    """See whether overlays can be mounted in a folder, by mounting one.

    Returns:
        ``backing``, the filesystem's name, and ``native``: whether the marks in upper directories are
        those that are expected.

    Raises:
        UnsupportedError: they cannot be.
    """
    with trial(home) as (folder, kind):
        mounter = FuseMounter(folder)
        try:
            mounter.mount(Overlay(["lower"], "merged", "upper", "work"))
            os.rmdir(f"{folder}/merged/folder")
            os.mkdir(f"{folder}/merged/new")
        except UnsupportedError:
            raise
        except GraphDriverError as error:
            raise UnsupportedError(
                f"fuse-overlayfs: nothing can be mounted on {kind}: {error.problem}",
                hint=error.hint,
            ) from error
        finally:
            mounter.end()
        whiteout, opaque = f"{folder}/upper/folder", os.fsencode(f"{folder}/upper/new")
        is_native = (
            os.path.lexists(whiteout)
            and is_whiteout(os.lstat(whiteout))
            and xattr.get(opaque, mounter.marks.opaque) == b"y"
        )
    return {"backing": kind, "native": is_native}
