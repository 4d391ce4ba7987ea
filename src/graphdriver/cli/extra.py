"""What is said where the extra for containerd is not installed."""

from __future__ import annotations

from graphdriver.errors import UnsupportedError


def needs_grpc(missing: ImportError) -> UnsupportedError:
    """Return the error for a package that is not there."""
    return UnsupportedError(
        f"a snapshotter speaks gRPC, and {missing.name} is not installed",
        hint="pip install 'graphdriver[containerd]'",
    )
