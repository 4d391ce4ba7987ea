"""What a check found: one class for all checks, so that they are shown and counted alike."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.IntEnum):
    """How bad a finding is."""

    NOTE = 1
    """Worth knowing; nothing needs to be done."""
    WARNING = 2
    """Works now; something will go wrong, or space is lost."""
    DAMAGE = 3
    """Something does not work, or content is lost."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        severity: how bad it is.
        code: a stable name for programs: ``dangling-link``.
        subject: the layer's ID, or the path, mount or process that it is about; ``""``: the whole home.
        text: what is wrong, in one sentence without a full stop.
        advice: what to do about it; ``""`` if nothing needs to be done.
    """

    severity: Severity
    code: str
    subject: str
    text: str
    advice: str = ""


def wrong_access(uid: int, mode: int) -> str:
    """Return what lets other users at a file, as a finding says it: its owner, or else its mode."""
    return f"belongs to user {uid}" if uid else f"has mode {mode:04o}"
