"""The reason for each case: what containerd 1.6.20 and 2.3.4 do with snapshots."""

from __future__ import annotations

from typing import Final

from graphdriver.conformance.kit.case import Reason

_SUITE: Final = ("containerd, core/snapshots, the interface's documentation",)

METADATA: Final = Reason(
    "containerd keeps its own names and parents, and relies on the snapshotter's being the same. "
    "For the second import of an image it only calls Stat.",
    _SUITE,
)
TIMES: Final = Reason(
    "The garbage collector and `ctr snapshots` use the times that Stat returns.",
)
LABELS: Final = Reason(
    "Labels protect snapshots from the garbage collector. The labels of an active snapshot are not "
    "those of the snapshot that Commit makes of it.",
    _SUITE,
)
UPDATE: Final = Reason(
    "`ctr snapshots label` and the garbage collector change labels by a field mask.",
)
FILTERS: Final = Reason(
    "containerd selects snapshots in its filter language.",
    _SUITE,
)
CODES: Final = Reason(
    "containerd acts on the code. For example, any code of Remove other than NotFound and "
    "FailedPrecondition stops the whole garbage collection.",
)
MOUNTS: Final = Reason(
    "The differ writes into the upperdir of a single overlay mount, and mounts everything else. To "
    "newer versions a read-only last mount means that the layer exists already.",
)
OPTIONS: Final = Reason(
    "If an overlay mount has an option that BuildKit does not know, BuildKit rejects COPY --link, "
    "and walks both trees at each export. containerd passes such an option of a bind mount to the "
    "kernel, which ignores it.",
    ("BuildKit, util/overlay, GetOverlayLayers", "containerd, core/mount, parseMountOptions"),
)
CONTENT: Final = Reason(
    "A layer is its parent's content with the layer's changes.",
    _SUITE,
)
READ_ONLY: Final = Reason(
    "Many callers mount the same view. What one of them writes, all others see.",
    _SUITE,
)
ROOT: Final = Reason(
    "A root directory that is not 0755 keeps every user but root out of the container.",
)
COPY_UP: Final = Reason(
    "Package managers rename and chown files of the layers below.",
    _SUITE,
)
MANY_LAYERS: Final = Reason(
    "Mount options that are longer than a page are truncated or rejected.",
)
USAGE: Final = Reason(
    "The kubelet evicts pods by their usage.",
)
COLLECTION: Final = Reason(
    "The garbage collector removes children first, then calls Cleanup. What remains fills the disk.",
)
CALLERS: Final = Reason(
    "containerd unpacks several images at once.",
)
