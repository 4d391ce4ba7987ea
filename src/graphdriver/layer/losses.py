"""What a filesystem cannot keep of an entry: an error, or a loss that somebody has agreed to.

Who asks for best effort - without root nobody makes a device, and some filesystems know no extended
attributes - gets the rest, and is told of each kind of loss once. Never lost are content, types,
modes and owners: a file that is somebody else's is no lesser copy, it is another file.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Collection

from graphdriver.errors import UnsupportedError
from graphdriver.linux.namespaces import in_user_namespace

_log = logging.getLogger(__name__)


class Loss(enum.Enum):
    """The kinds of what may be lost."""

    DEVICE = "devices"
    TIME = "times"
    ATTRIBUTE = "extended attributes"


def unavoidable() -> Collection[Loss]:
    """Return what a layer loses where this process is: in a user namespace its devices.

    Nobody makes devices there; Docker leaves them out as well. What containers need is in their /dev.
    """
    return (Loss.DEVICE,) if in_user_namespace() else ()


class Losses:
    """What cannot be kept of one layer.

    Args:
        allowed: the kinds that may be.
    """

    def __init__(self, allowed: Collection[Loss]) -> None:
        self._allowed = allowed
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
        if kind not in self._allowed:
            raise UnsupportedError(problem)
        if (kind, of) not in self._told:
            self._told.add((kind, of))
            _log.warning("%s; further %s like it are lost without a word", problem, kind.value)
