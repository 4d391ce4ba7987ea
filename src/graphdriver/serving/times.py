"""Times as text: RFC 3339 in UTC, to the millisecond."""

from __future__ import annotations

import time


def rfc3339(seconds: float) -> str:
    """Return a time in seconds since 1970 as text: ``2026-11-25T03:15:49.750Z``."""
    whole = int(seconds // 1)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{text}.{int((seconds - whole) * 1000):03}Z"
