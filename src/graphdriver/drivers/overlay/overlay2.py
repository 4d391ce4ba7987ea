"""The driver overlay2: layers mounted by the kernel's overlayfs, laid out like Docker's overlay2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from graphdriver.abilities import Suitability
from graphdriver.driver import Needs
from graphdriver.drivers.options import Option
from graphdriver.drivers.overlay.dockers_own import DockersOverlay
from graphdriver.drivers.overlay.driver import OverlayDriver
from graphdriver.drivers.overlay.kernel_mounter import KernelMounter
from graphdriver.drivers.overlay.layers import HomeSetup
from graphdriver.drivers.overlay.mounter import Mounter
from graphdriver.drivers.overlay.options import MOUNTOPT, SIZE, VOLATILE, HomeOptions
from graphdriver.drivers.overlay.probe import expect_overlayfs, probe_overlayfs
from graphdriver.drivers.probe_record import probe_or_recall
from graphdriver.homes import DockersOwn


class Overlay2Driver(OverlayDriver):
    """Layers on each other, mounted by the kernel's overlayfs."""

    driver_name: ClassVar[str] = "overlay2"
    # Root fills images beyond the quotas of their files' owners.
    needs: ClassVar[Needs] = Needs(frozenset({"CAP_SYS_RESOURCE"}))
    options: ClassVar[Sequence[Option]] = (MOUNTOPT, SIZE, VOLATILE)

    @classmethod
    def probe(cls, home: str) -> Suitability:
        """Tell how well the driver suits a directory, which exists."""
        backing = probe_overlayfs(home)
        return Suitability(30, f"unchanged files are shared, on {backing}")

    @classmethod
    def check(cls, options: Sequence[str]) -> None:
        """Refuse what would be refused in any home."""
        HomeOptions.parse(options, cls.options, cls.driver_name)
        expect_overlayfs()

    @classmethod
    def dockers_own(cls) -> DockersOwn:
        """Return what is known of Docker's own driver (`graphdriver.homes.KnowsDockersOwn`)."""
        return DockersOverlay()

    @classmethod
    def make_mounter(cls, home: str) -> Mounter:
        """Return the mounter of a home."""
        return KernelMounter(home)

    @classmethod
    def set_up(cls, home: str, options: Sequence[str]) -> HomeSetup:
        """Probe a home by a mount in it; see `OverlayDriver.set_up`."""
        parsed = HomeOptions.parse(options, cls.options, cls.driver_name)
        found = probe_or_recall(home, lambda: {"backing": probe_overlayfs(home, parsed)})
        backing = str(found.get("backing", "unknown"))
        return HomeSetup(cls.driver_name, cls.make_mounter(home), parsed, backing)
