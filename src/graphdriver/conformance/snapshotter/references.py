"""Why things are checked: what containerd does with snapshots, read off 1.6.20 and 2.3.4."""

from __future__ import annotations

from typing import Final

from graphdriver.conformance.kit.case import Reason

_SUITE: Final = ("containerd, core/snapshots, the interface's documentation",)

METADATA: Final = Reason(
    "containerd keeps names and parents of its own and believes that the snapshotter's are the same; "
    "its second import of an image only asks Stat.",
    _SUITE,
)
TIMES: Final = Reason("The garbage collector and `ctr snapshots` go by the times that Stat tells.")
LABELS: Final = Reason(
    "Labels hold snapshots against the garbage collector; those of an active snapshot are not those of "
    "what is committed of it.",
    _SUITE,
)
UPDATE: Final = Reason(
    "`ctr snapshots label` and the garbage collector change labels by a field mask."
)
FILTERS: Final = Reason("containerd asks for snapshots in its filter language.", _SUITE)
CODES: Final = Reason(
    "containerd acts upon the code: any other than NotFound and FailedPrecondition of a Remove stops "
    "the whole garbage collection."
)
MOUNTS: Final = Reason(
    "The differ writes into the upperdir that a single overlay mount names, and mounts whatever else "
    "it is told; a last mount that is read-only means to newer versions that the layer is there."
)
OPTIONS: Final = Reason(
    "BuildKit refuses COPY --link, and walks both trees at each export, where an overlay mount has an "
    "option that it does not know; containerd passes such an option of a bind mount to the kernel, "
    "which ignores it.",
    ("BuildKit, util/overlay, GetOverlayLayers", "containerd, core/mount, parseMountOptions"),
)
CONTENT: Final = Reason("A layer is what its parent shows and what was changed.", _SUITE)
READ_ONLY: Final = Reason(
    "A view is mounted by many at once; what one writes all others see.", _SUITE
)
ROOT: Final = Reason(
    "A root folder that is not 0755 keeps every user but root out of the container."
)
COPY_UP: Final = Reason("Package managers rename and chown what the layers below hold.", _SUITE)
MANY_LAYERS: Final = Reason("Options of a mount that are longer than a page are cut or refused.")
USAGE: Final = Reason("Kubelet evicts pods by the usage that it is told.")
COLLECTION: Final = Reason(
    "The garbage collector removes children first, then asks for Cleanup; what is left fills the disk."
)
CALLERS: Final = Reason("containerd unpacks several images at once.")
