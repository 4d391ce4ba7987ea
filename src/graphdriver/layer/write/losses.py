"""What is left out of a layer because it cannot be kept here: one warning for each kind and layer.

An image that Docker loads, loads. What this machine, this filesystem or this type of file cannot keep,
and without which a file is still the same file, is left out. Content, types, modes, owners and links
never are, nor attributes that may not be lost (`graphdriver.layer.attributes`): those raise an error.
"""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)


class Losses:
    """Warns of what is left out of one layer."""

    def __init__(self) -> None:
        self._noted: set[str] = set()

    def note(self, kind: str, problem: str) -> None:
        """Warn, unless something of this kind was left out of this layer before.

        Args:
            kind: sorts what is left out; there must be few, whatever the tar holds.
            problem: what of which entry is left out, and why.
        """
        if kind not in self._noted:
            self._noted.add(kind)
            _log.warning("%s; more of the kind in this layer is not logged", problem)
