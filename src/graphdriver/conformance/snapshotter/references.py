"""The sources of the rules; what containerd 1.6.20 and 2.3.4 do was read in their source code."""

from __future__ import annotations

from typing import Final

_INTERFACE: Final = (
    "https://github.com/containerd/containerd/blob/v2.0.0/core/snapshots/snapshotter.go"
)

METADATA: Final = (_INTERFACE,)
LABELS: Final = (_INTERFACE,)
FILTERS: Final = (_INTERFACE,)
OPTIONS: Final = (
    "https://github.com/moby/buildkit/blob/v0.12.0/util/overlay/overlay_linux.go",
    "https://github.com/containerd/containerd/blob/v2.0.0/core/mount/mount_linux.go",
)
CONTENT: Final = (_INTERFACE,)
READ_ONLY: Final = (_INTERFACE,)
DIFF: Final = (
    "https://github.com/containerd/containerd/blob/v2.0.0/core/diff/diff.go",
    "https://github.com/containerd/containerd/blob/v2.0.0/core/diff/proxy/differ.go",
)
REBASE: Final = ("https://github.com/containerd/containerd/blob/v2.2.0/core/unpack/unpacker.go",)
EXPORTS: Final = (
    "https://github.com/containerd/containerd/blob/v2.0.0/docs/remote-snapshotter.md",
)
COPY_UP: Final = (_INTERFACE,)
