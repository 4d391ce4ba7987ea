"""The driver on overlayfs: a layer is what it changed, and is shown upon the layers below it.

On disk, as Docker's own overlay2 has it::

    HOME/ID/diff        what the layer changed: the upper folder of its mount
    HOME/ID/link        the name of its link in HOME/l
    HOME/ID/lower       l/NAME:l/NAME:...: the layers below, nearest first; none in a first layer
    HOME/ID/work        overlayfs's own
    HOME/ID/committed   it has, or had, a child: from then on it is mounted without an upper folder
    HOME/ID/merged      where it is mounted, while it is; on a read-only filesystem it is on ``work``
    HOME/ID/.volatile   it is mounted with ``volatile``
    HOME/l/NAME         a link to ../ID/diff: names short enough for many of them in one mount

A first layer needs no mount: its ``diff`` is its tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from graphdriver.driver import Suitability
from graphdriver.drivers.overlay.driver import OverlayDriver
from graphdriver.drivers.overlay.ground import Ground
from graphdriver.drivers.overlay.mounts import KernelMounter
from graphdriver.drivers.overlay.options import KNOWN, HomeOptions
from graphdriver.drivers.overlay.probe import examine, expect_overlayfs
from graphdriver.drivers.probed import probed


class Overlay2Driver(OverlayDriver):
    """Layers upon each other by the kernel's overlayfs."""

    driver_name: ClassVar[str] = "overlay2"

    @classmethod
    def probe(cls, home: str) -> Suitability:
        """Tell how well the driver would do in a folder, which exists."""
        kind = examine(home)
        return Suitability(30, f"layers share all that they do not change, on {kind}")

    @classmethod
    def check(cls, options: Sequence[str]) -> None:
        """Refuse what would be refused in any home."""
        HomeOptions.parse(options, cls.driver_name, KNOWN)
        expect_overlayfs()

    @classmethod
    def survey(cls, home: str, options: Sequence[str]) -> Ground:
        """Look at a home by mounting something there; see `OverlayDriver.survey`."""
        parsed = HomeOptions.parse(options, cls.driver_name, KNOWN)
        found = probed(home, lambda: {"backing": examine(home, parsed)})
        return Ground(
            cls.driver_name, KernelMounter(home), parsed, str(found.get("backing", "unknown"))
        )
