"""The C library, for system calls that Python does not wrap."""

from __future__ import annotations

import ctypes
import os
from typing import NoReturn

libc = ctypes.CDLL(None, use_errno=True)
"""Calls made through it release the interpreter lock and leave errno for `raise_errno`."""


def raise_errno(what: str) -> NoReturn:
    """Raise the `OSError` of the call that just failed.

    Raises:
        OSError: always, with ``what`` as its file name.
    """
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), what)
