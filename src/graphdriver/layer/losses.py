"""What a filesystem cannot keep of an entry: an error, or a loss that somebody has agreed to.

Who asks for best effort - without root nobody makes a device, and some filesystems know no extended
attributes - gets the rest, and is told of each kind of loss once. Never lost are content, types,
modes and owners: a file that is somebody else's is no lesser copy, it is another file.
"""

from __future__ import annotations

import enum
import logging

from graphdriver.errors import UnsupportedError

_log = logging.getLogger(__name__)


class Loss(enum.Enum):
    """The kinds of what may be lost."""

    DEVICE = "devices"
    TIME = "times"
    ATTRIBUTE = "extended attributes"


class Losses:
    """What cannot be kept of one layer.

    Args:
        are_allowed: by whoever asked for best effort.
    """

    def __init__(self, are_allowed: bool) -> None:
        self._are_allowed = are_allowed
        self._told: set[tuple[Loss, str]] = set()

    def meet(self, kind: Loss, problem: str, *, of: str = "") -> None:
        """Go on without something, if that is allowed.

        Args:
            kind: what it is.
            problem: which entry's, and why it cannot be kept.
            of: sorts within the kind that are told of one by one; there must be few.

        Raises:
            UnsupportedError: it is not.
        """
        if not self._are_allowed:
            raise UnsupportedError(problem)
        if (kind, of) not in self._told:
            self._told.add((kind, of))
            _log.warning("%s; further %s like it are lost without a word", problem, kind.value)
