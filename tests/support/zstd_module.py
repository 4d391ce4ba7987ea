"""The standard library's ``compression.zstd``, or its backport before Python 3.14."""

from __future__ import annotations

try:
    from compression import zstd  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    from backports import zstd

__all__ = ["zstd"]
