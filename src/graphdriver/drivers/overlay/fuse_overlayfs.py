"""The driver fuse-overlayfs: layers mounted by that program, where overlayfs is unavailable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from graphdriver.abilities import Suitability
from graphdriver.driver import Needs
from graphdriver.drivers.options import Option
from graphdriver.drivers.overlay.driver import OverlayDriver
from graphdriver.drivers.overlay.fuse_mounter import FuseMounter, expect_program
from graphdriver.drivers.overlay.layers import HomeSetup
from graphdriver.drivers.overlay.mounter import Mounter
from graphdriver.drivers.overlay.options import SIZE, HomeOptions
from graphdriver.drivers.overlay.probe import probe_fuse_overlayfs
from graphdriver.drivers.probe_record import probe_or_recall


class FuseOverlayfsDriver(OverlayDriver):
    """Layers on each other, mounted by the program fuse-overlayfs."""

    driver_name: ClassVar[str] = "fuse-overlayfs"
    # Without CAP_SYS_RESOURCE: with it the program, which writes for containers, could exceed ``size``.
    needs: ClassVar[Needs] = Needs(lasting_programs=True)
    options: ClassVar[Sequence[Option]] = (SIZE,)
    mount_type: ClassVar[str] = "fuse3.fuse-overlayfs"

    @classmethod
    def probe(cls, home: str) -> Suitability:
        """Tell how well the driver suits a directory, which exists."""
        backing = probe_fuse_overlayfs(home)["backing"]
        return Suitability(
            22, f"unchanged files are shared through the fuse-overlayfs program, on {backing}"
        )

    @classmethod
    def check(cls, options: Sequence[str]) -> None:
        """Refuse what would be refused in any home."""
        HomeOptions.parse(options, cls.options, cls.driver_name)
        expect_program()

    @classmethod
    def make_mounter(cls, home: str) -> Mounter:
        """Return the mounter of a home."""
        return FuseMounter(home)

    @classmethod
    def set_up(cls, home: str, options: Sequence[str]) -> HomeSetup:
        """Probe a home by a mount in it; see `OverlayDriver.set_up`."""
        parsed = HomeOptions.parse(options, cls.options, cls.driver_name)
        found = probe_or_recall(home, lambda: probe_fuse_overlayfs(home))
        return HomeSetup(
            cls.driver_name,
            cls.make_mounter(home),
            parsed,
            str(found.get("backing", "unknown")),
            # Unknown means no: the naive differ is right with any marks in upper directories.
            found.get("native") is True,
        )
