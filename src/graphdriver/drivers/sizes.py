"""Sizes as Docker's users write them."""

from __future__ import annotations

import re

from graphdriver.errors import UnsupportedError

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgtp]?)i?b?", re.IGNORECASE)
_UNITS = "kmgtp"


def size_of(text: str) -> int:
    """Return the bytes that ``10G``, ``512m`` or ``1.5 TiB`` says, as Docker reads it (powers of 1024).

    Raises:
        UnsupportedError: it says no size.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise UnsupportedError(f"{text!r} is no size", hint="write 10G or 512m")
    return int(float(found[1]) * 1024 ** (" " + _UNITS).index(found[2].lower() or " "))
