"""The names in a home, in addition to those of the overlay family.

The docstring of the package `graphdriver.drivers.erofs` describes the layout and what a crash leaves.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Sequence
from typing import ClassVar, Final

from graphdriver.drivers.overlay.layout import DIFF, Layout
from graphdriver.errors import GraphDriverError

APPLIED: Final = "applied"
IMAGE: Final = "layer.erofs"
RECORD: Final = "layer.json"

_APPLIED_LINK: Final = "-a"
"""The end of the name of the link to ``applied``, behind the name of the layer's own link."""


class ImageLayout(Layout):
    """The files in a home with applied layers."""

    link_name: ClassVar[re.Pattern[str]] = re.compile(rf"l/[A-Z0-9]{{26}}(?:{_APPLIED_LINK})?")
    parts: ClassVar[Sequence[str]] = (DIFF, APPLIED)

    def is_applied(self, id: str) -> bool:
        """Tell whether a layer has an applied part, whole or not.

        Any of its files is enough: if one is missing, the layer is lost, and must not look empty.
        """
        return any(os.path.lexists(self.path(id, name)) for name in (APPLIED, IMAGE, RECORD))

    def applied_link(self, id: str) -> str:
        """Return the name of the link to a layer's ``applied``, relative to the home.

        Raises:
            GraphDriverError: the file that holds the layer's own link is damaged or missing.
        """
        return _applied(self.link_of(id))

    def images_in(self, links: Sequence[str], id: str) -> list[str]:
        """Return the layers whose ``applied`` some of these links lead to.

        Args:
            links: relative to the home.
            id: the layer that lists them.

        Raises:
            GraphDriverError: one of the links was lost.
            OSError: they cannot be read now.
        """
        targets = (self.target(link, id) for link in links if link.endswith(_APPLIED_LINK))
        return [layer for layer, part in targets if part == APPLIED]

    def make_applied_link(self, id: str) -> None:
        """Make the link to a layer's ``applied``, unless it exists.

        Raises:
            GraphDriverError: as for `applied_link`.
            OSError: it cannot be made.
        """
        with contextlib.suppress(FileExistsError):
            self.make_link(id, self.applied_link(id), APPLIED)

    def remove_link(self, link: str) -> None:
        """Remove a layer's links, given its own one; succeed if they do not exist."""
        super().remove_link(link)
        super().remove_link(_applied(link))

    def sweep_links(self, layers: Collection[str]) -> None:
        """Remove dangling links, and make missing links again."""
        super().sweep_links(layers)
        for id in filter(self.is_applied, layers):
            with contextlib.suppress(GraphDriverError, OSError):
                self.make_applied_link(id)


def _applied(link: str) -> str:
    return f"{link}{_APPLIED_LINK}"
