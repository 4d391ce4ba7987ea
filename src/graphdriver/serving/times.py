"""Times as text: RFC 3339 in UTC, to the millisecond."""

from __future__ import annotations

import time


def rfc3339(seconds: float) -> str:
    """Return a time in seconds since 1970 as text: ``2026-11-25T03:15:49.750Z``."""
    # In microseconds first: a time that was read from such a text gives the same text again.
    whole, fraction = divmod(round(seconds * 1_000_000), 1_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{text}.{fraction // 1000:03}Z"
