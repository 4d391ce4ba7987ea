"""Faults in the diff service, and in what it needs of the snapshotter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphdriver.abilities import Mount
from graphdriver.containerd.diff.content import Caller
from graphdriver.containerd.diff.differ import Descriptor, Differ
from graphdriver.containerd.metadata import Snapshot
from graphdriver.errors import (
    BadArchiveError,
    LayerExistsError,
    UnknownCallError,
    UnsupportedError,
)
from tests.conformance.snapshotter.faults.fault import Broken, Labels, caught_by


@caught_by("diff/layer-is-applied")
class SizeOfNothing(Broken):
    """Apply answers no size."""

    class differ(Differ):  # noqa: N801
        def apply(self, blob: Descriptor, mounts: Sequence[Mount], caller: Caller) -> Descriptor:
            return replace(super().apply(blob, mounts, caller), size=0)


@caught_by("diff/gzip-is-inflated")
class DigestOfTheBlob(Broken):
    """Apply answers the digest of the compressed blob."""

    class differ(Differ):  # noqa: N801
        def apply(self, blob: Descriptor, mounts: Sequence[Mount], caller: Caller) -> Descriptor:
            return replace(super().apply(blob, mounts, caller), digest=blob.digest)


@caught_by("diff/another-blob-is-refused")
class DigestIsNotChecked(Broken):
    """A blob with another digest is applied."""

    class differ(Differ):  # noqa: N801
        def apply(self, blob: Descriptor, mounts: Sequence[Mount], caller: Caller) -> Descriptor:
            try:
                return super().apply(blob, mounts, caller)
            except BadArchiveError:
                return blob


@caught_by("diff/mounts-of-others-are-left")
class MountsOfOthersAreAnError(Broken):
    """Mounts that were not given out have another code than Unimplemented."""

    class differ(Differ):  # noqa: N801
        def _shown(self, mounts: Sequence[Mount]) -> Snapshot:
            try:
                return super()._shown(mounts)
            except UnknownCallError as error:
                raise UnsupportedError("these mounts are not mine") from error


@caught_by("diff/unknown-media-types-are-left")
class EveryTypeIsATar(Broken):
    """A blob of an unknown type is taken for a tar."""

    class differ(Differ):  # noqa: N801
        def apply(self, blob: Descriptor, mounts: Sequence[Mount], caller: Caller) -> Descriptor:
            tar = "application/vnd.oci.image.layer.v1.tar"
            kind = blob.media_type if blob.media_type.startswith(tar) else tar
            return super().apply(replace(blob, media_type=kind), mounts, caller)


@caught_by("diff/changes-become-a-layer")
class AllIsALayer(Broken):
    """Diff packs all that a snapshot shows."""

    class differ(Differ):  # noqa: N801
        def diff(
            self,
            left: Sequence[Mount],
            right: Sequence[Mount],
            media_type: str,
            ref: str,
            labels: Mapping[str, str],
            caller: Caller,
        ) -> Descriptor:
            return super().diff([], right, media_type, ref, labels, caller)


@caught_by("exports/remote-labels-claim-nothing")
class EveryLayerIsHere(Broken):
    """Each layer of an image is said to be here already."""

    def prepare(self, key: str, parent: str, labels: Labels) -> Sequence[Mount]:
        if "containerd.io/snapshot.ref" in labels:
            raise LayerExistsError("the layer is here")
        return super().prepare(key, parent, labels)
