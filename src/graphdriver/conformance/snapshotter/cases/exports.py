"""What a configuration with exports relies on (``[proxy_plugins.NAME.exports]``)."""

from __future__ import annotations

from typing import Final

import grpc

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import Mismatch, expect
from graphdriver.conformance.snapshotter import references
from graphdriver.conformance.snapshotter.calls import EXISTS, code_of
from graphdriver.conformance.snapshotter.kit import Kit

GROUP: Group[Kit] = Group(
    "exports", "labels that containerd sends if its configuration asks for them"
)

_REF: Final = "containerd.io/snapshot.ref"
_OF_CRI: Final = "containerd.io/snapshot/cri.image-ref"


@GROUP.case(see=references.EXPORTS)
def remote_labels_claim_nothing(kit: Kit) -> None:
    """Prepare with the labels of an image's layer makes a snapshot, or a committed one can be found.

    With ``enable_remote_snapshot_annotations`` each layer's Prepare has them. AlreadyExists means that
    the layer is here already: containerd skips its download, and looks for a committed snapshot with
    this label. Without one the pull fails.
    """
    key, ref = kit.key("active"), kit.key("chain")
    labels = {_REF: ref, _OF_CRI: "example.org/image:latest"}
    try:
        kit.calls.prepare(key, **labels)
    except grpc.RpcError as error:
        if code_of(error) is not EXISTS:
            raise
        if not kit.calls.list(f'labels."{_REF}"=="{ref}"'):
            raise Mismatch(
                "snapshots with the label, after AlreadyExists", "none", "a committed one"
            ) from error
        return
    expect("the snapshot's labels", dict(kit.calls.stat(key).labels), labels)
